"""A question about a network and images: perturbation, specification, preprocessing.

A ledger's run stores it as two texts, and it is read back from them if they define it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from verify_pipeline.certify.contract import Certifiable
from verify_pipeline.certify.instances import BoxInstances, Instances, RobustImages
from verify_pipeline.certify.perturbations import ChannelBalls, LinfBall, Perturbation
from verify_pipeline.certify.preprocessing import AS_IT_IS, Layout, Prepared, Preprocessing, prepare
from verify_pipeline.certify.records import Run
from verify_pipeline.certify.specifications import (
    MARGINS,
    OutputSpecification,
    Targeted,
    TopK,
)
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import ConfigError, DataError

BOXES = "boxes"
"""A perturbation's name if explicit boxes are given; each row has the digest of its box."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of each image.

    Attributes:
        perturbation: how much it may change; None: each pixel by the settings' ε. Not looked at
            where the boxes themselves are given.
        specification: what must hold of the network's outputs.
        preprocessing: what is done to pixels before the network gets them.
    """

    perturbation: Perturbation | None = None
    specification: OutputSpecification = MARGINS
    preprocessing: Preprocessing = AS_IT_IS


@dataclass(frozen=True, eq=False)
class AskedQuestion:
    """A question about a network and some instances that are checked to fit it.

    Attributes:
        network: of pixels: the network's file behind its preprocessing.
        instances: boxes and specifications.
        box: how the boxes are made, such as ``linf 0.1``.
        preprocessing: what is done to pixels; empty: nothing.
        specification: as in a ledger's run.
        epsilon: half-width of the boxes, where it is one number.
        compares: whether only comparisons of outputs are asked for.
    """

    network: Prepared
    instances: Instances
    box: str
    preprocessing: str
    specification: str
    epsilon: float | None
    compares: bool

    @property
    def perturbation(self) -> str:
        """Boxes and preprocessing as in a ledger's run."""
        return perturbation_text(self.box, self.preprocessing)


def perturbation_text(box: str, preprocessing: str) -> str:
    """What a ledger's run says of boxes and of what is done to pixels, both as texts."""
    return f"{box}; {preprocessing}" if preprocessing else box


def perturbation_parts(text: str) -> tuple[str, str]:
    """The two texts of which :func:`perturbation_text` made one."""
    box, _, preprocessing = text.partition("; ")
    return box, preprocessing


def ask(
    network: Certifiable,
    images: ImageSet | BoxSet,
    indices: Sequence[int],
    question: Question,
    epsilon: float,
) -> AskedQuestion:
    """Combine a question with a network and images.

    Args:
        network: as it was read.
        images: the whole set.
        indices: about which of them; those of which the specification asks nothing are left out.
        question: what is asked.
        epsilon: of the boxes, where the question leaves it open.

    Raises:
        DataError: the set, the network and the question do not belong together.
        ConfigError: the order of the axes has to be said.
    """
    spec = question.specification
    shape = images.shape
    prepared, words = prepare(network, question.preprocessing, shape)
    spec.check_fits(len(images), network.graph.outputs)
    chosen = _concerned(images, indices, spec)
    instances: Instances
    if isinstance(images, BoxSet):
        instances, box, width = BoxInstances(images, chosen, spec, prepared), BOXES, None
    else:
        perturbation = question.perturbation or LinfBall(epsilon)
        perturbation.check_fits(len(images), shape)
        instances = RobustImages(images, chosen, perturbation, spec, prepared.input_dtype)
        instances.check_fits(prepared.graph)
        box, width = perturbation.name, perturbation.epsilon
    return AskedQuestion(prepared, instances, box, words, spec.name, width, spec.needs_labels)


def _concerned(
    images: ImageSet | BoxSet, indices: Sequence[int], spec: OutputSpecification
) -> list[int]:
    places = torch.tensor(indices, dtype=torch.int64)
    if not spec.needs_labels:
        return places.tolist()
    if images.labels is None:
        raise ConfigError(
            f"specification {spec.name}",
            expected="labels",
            got="boxes without them",
            remedy="Give the labels, or rows and offsets.",
        )
    kept: list[int] = places[spec.concerns(images.labels.cpu()[places], places)].tolist()
    if not kept:
        raise DataError(
            f"specification {spec.name}",
            expected="images that it asks something of",
            got="none",
            remedy="An image whose label is its target is left out.",
        )
    return kept


_NUMBER = r"[-+.\deinf]+"
_NUMBERS = rf"{_NUMBER}(?:,{_NUMBER})*"
_BALL = re.compile(rf"linf ({_NUMBERS})")
_PREPROCESSING = re.compile(
    rf"(?:; mean (?P<mean>{_NUMBERS}) std (?P<std>{_NUMBERS}))?(?:; layout (?P<layout>nhwc))?"
)


def question_of(run: Run, given: Question | None = None) -> Question | None:
    """The question of a ledger's run: as its texts say, and what these leave open as is given.

    Args:
        run: as the ledger has it.
        given: whose perturbation or specification stands in where the run has only a digest of
            arrays; None: nothing does.

    Returns:
        None if something stays open. What was given may be another question than the run's.
    """
    box, _ = perturbation_parts(run.perturbation)
    preprocessing = preprocessing_of(run)
    perturbation = ball_of(box) or (None if given is None else given.perturbation)
    spec = specification_of(run.specification) or (None if given is None else given.specification)
    if preprocessing is None or spec is None or (perturbation is None and box != BOXES):
        return None
    return Question(perturbation, spec, preprocessing)


def preprocessing_of(run: Run) -> Preprocessing | None:
    """What a run says is done to pixels; None: its text is none that :func:`ask` gives."""
    _, separator, rest = run.perturbation.partition("; ")
    found = _PREPROCESSING.fullmatch(separator + rest)
    if found is None:
        return None
    mean, std = (_numbers(found[name] or "") for name in ("mean", "std"))
    # without a layout, the axis order is unchanged
    layout: Layout = "nhwc" if found["layout"] else "nchw"
    return Preprocessing(mean, std, layout)


_DIGEST = "[0-9a-f]{32}"
_BY_PIXEL = re.compile(rf"linf by pixel {_DIGEST}")
_OF_ARRAYS = re.compile(rf"(?:rows|targets) {_DIGEST}")


def is_question(run: Run) -> bool:
    """Whether a run's two texts are such as :func:`ask` gives them."""
    box, separator, rest = run.perturbation.partition("; ")
    try:
        ball, spec = ball_of(box), specification_of(run.specification)
    except (ValueError, ConfigError):  # the numbers are malformed
        return False
    boxes = ball is not None or box == BOXES or _BY_PIXEL.fullmatch(box) is not None
    asks = spec is not None or _OF_ARRAYS.fullmatch(run.specification) is not None
    return boxes and asks and _PREPROCESSING.fullmatch(separator + rest) is not None


def ball_of(text: str) -> LinfBall | ChannelBalls | None:
    """The boxes that a run's text says in full, such as ``linf 0.1``; None for other texts."""
    found = _BALL.fullmatch(text)
    if found is None:
        return None
    epsilons = _numbers(found[1])
    return LinfBall(epsilons[0]) if len(epsilons) == 1 else ChannelBalls(epsilons)


def specification_of(text: str) -> OutputSpecification | None:
    """What a run's text says in full, such as ``margins`` or ``top-5``; None for other texts."""
    if text == MARGINS.name:
        return MARGINS
    found = re.fullmatch(r"(top-|target )(\d+)", text)
    if found is None:
        return None
    number = int(found[2])
    return TopK(number) if found[1] == "top-" else Targeted(torch.tensor(number))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(",") if number)
