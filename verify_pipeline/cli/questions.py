"""What is asked of the images, as options: by how much they may change, and what must hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from verify_pipeline.cli import panels
from verify_pipeline.cli.arguments import both, refuse_beside
from verify_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from verify_pipeline.certify.perturbations import Perturbation
    from verify_pipeline.certify.preprocessing import Layout
    from verify_pipeline.certify.questions import Question
    from verify_pipeline.certify.specifications import OutputSpecification
    from verify_pipeline.data import BoxSet

Epsilon = Annotated[
    str | None,
    typer.Option(
        "--epsilon",
        "--eps",
        help="Half-width of the boxes, a number or a fraction such as 2/255; pixels are in "
        "[0, 1]. Several with commas: one for each channel. Default: the recipe's, or the one the "
        "file was trained for.",
        rich_help_panel=panels.QUESTION,
    ),
]
EpsilonFile = Annotated[
    Path | None,
    typer.Option(
        help="Half-widths by pixel instead: a .npy file that broadcasts to an image.",
        rich_help_panel=panels.QUESTION,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="For a network of normalised pixels: what is subtracted, one number or one for each "
        "channel, with commas. Boxes are of pixels in [0, 1] all the same.",
        rich_help_panel=panels.QUESTION,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        help="Divisors applied after --mean; as many numbers.", rich_help_panel=panels.QUESTION
    ),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="Order in which the network takes an image's pixels: nchw or nhwc. Default: as the "
        "shape of its input says.",
        rich_help_panel=panels.QUESTION,
    ),
]
Lower = Annotated[
    Path | None,
    typer.Option(
        help="Boxes as they are, instead of ε: a .npy file of lower limits, N x the network's "
        "input. --images may name a point of each; --labels may be left out beside --rows.",
        rich_help_panel=panels.QUESTION,
    ),
]
Upper = Annotated[
    Path | None, typer.Option(help="Their upper limits.", rich_help_panel=panels.QUESTION)
]
Target = Annotated[
    str | None,
    typer.Option(
        help="Ask only that the label beats this class; or a .npy file, one class for each image.",
        rich_help_panel=panels.QUESTION,
    ),
]
TopKOption = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        help="Ask only that the label stays among the k best classes.",
        rich_help_panel=panels.QUESTION,
    ),
]
Rows = Annotated[
    Path | None,
    typer.Option(
        help="Ask that every row of C f + d is positive: a .npy file of C, S x K, or N x S x K, "
        "one for each image.",
        rich_help_panel=panels.QUESTION,
    ),
]
Offsets = Annotated[
    Path | None,
    typer.Option(
        help="d, S or N x S: a .npy file. Default: zeros.", rich_help_panel=panels.QUESTION
    ),
]


@dataclass(frozen=True)
class Typed:
    """The options as typed; None where one was not given."""

    epsilon: Epsilon = None
    epsilon_file: EpsilonFile = None
    mean: Mean = None
    std: Std = None
    layout: LayoutOption = None
    target: Target = None
    top_k: TopKOption = None
    rows: Rows = None
    offsets: Offsets = None


@dataclass(frozen=True)
class Boxes:
    """Boxes as they are, as typed; None where an option was not given."""

    lower: Lower = None
    upper: Upper = None


def question_of(typed: Typed) -> Question:
    """The question that options ask; a single ε is not in it, but in the settings.

    Raises:
        ConfigError: options that exclude each other, or a number that is none.
        DataError: a file is missing, or what it holds cannot be.
    """
    from verify_pipeline.certify.preprocessing import Preprocessing
    from verify_pipeline.certify.questions import Question

    if typed.layout not in (None, "nchw", "nhwc"):
        raise ConfigError("--layout", expected="nchw or nhwc", got=typed.layout)
    preprocessing = Preprocessing(
        _numbers("--mean", typed.mean), _numbers("--std", typed.std), cast("Layout", typed.layout)
    )
    return Question(_perturbation(typed), _specification(typed), preprocessing)


def single_epsilon(typed: Typed) -> str | None:
    """ε as a field of the settings, where one number was typed."""
    return None if typed.epsilon is None or "," in typed.epsilon else typed.epsilon


@dataclass(frozen=True)
class OwnBoxes:
    """A user's own boxes.

    Attributes:
        lower: path of the lower limits' array.
        upper: path of the upper limits' array.
        labels: path of the labels' array, or None.
        points: path of points in the boxes, or None.
    """

    lower: Path
    upper: Path
    labels: Path | None
    points: Path | None

    @property
    def name(self) -> str:
        """What the boxes are called in ledgers and tables."""
        return self.lower.stem

    def read(self, outputs: int, question: Question) -> BoxSet:
        """The boxes; labels are compared with the network's outputs later, where that matters.

        Raises:
            DataError: a file is missing, or what it holds cannot be.
        """
        from verify_pipeline import data

        return data.boxes_from_arrays(self.lower, self.upper, self.labels, self.points, self.name)


def own_boxes(
    lower: Path | None,
    upper: Path | None,
    images: Path | None,
    labels: Path | None,
    **others: object,
) -> OwnBoxes | None:
    """The boxes that `--lower` and `--upper` name together; None: neither was given.

    Args:
        lower: path, or None where the option was not given.
        upper: path, or None where the option was not given.
        images: path of points in the boxes, or None.
        labels: path, or None.
        others: by name, options that mean nothing beside these; None where not given.

    Raises:
        ConfigError: one without the other, or one of ``others`` beside them.
    """
    given = both(("--lower", lower), ("--upper", upper))
    if given is None:
        return None
    refuse_beside("--lower and --upper", "images with an ε", others)
    return OwnBoxes(*given, labels, images)


def _perturbation(typed: Typed) -> Perturbation | None:
    from verify_pipeline import data
    from verify_pipeline.certify.perturbations import ChannelBalls, PixelBalls

    if typed.epsilon_file is not None:
        if typed.epsilon is not None:
            raise ConfigError("--epsilon and --epsilon-file", expected="one of them", got="both")
        return PixelBalls(data.read_numbers(typed.epsilon_file))
    if typed.epsilon is not None and "," in typed.epsilon:
        return ChannelBalls(_numbers("--epsilon", typed.epsilon))
    return None


def _specification(typed: Typed) -> OutputSpecification:
    from verify_pipeline import data
    from verify_pipeline.certify.specifications import MARGINS, LinearRows, Targeted, TopK

    given = {"--target": typed.target, "--top-k": typed.top_k, "--rows": typed.rows}
    asked = [name for name, value in given.items() if value is not None]
    if len(asked) > 1:
        raise ConfigError(" and ".join(asked), expected="one of them", got="several")
    if typed.offsets is not None and typed.rows is None:
        raise ConfigError("--offsets", expected="--rows beside them", got="none")
    if typed.target is not None:
        return Targeted(_targets(typed.target))
    if typed.top_k is not None:
        return TopK(typed.top_k)
    if typed.rows is None:
        return MARGINS
    rows = data.read_numbers(typed.rows)
    zeros = rows.new_zeros(rows.shape[:-1])
    return LinearRows(rows, zeros if typed.offsets is None else data.read_numbers(typed.offsets))


def _targets(text: str) -> Tensor:
    import torch

    from verify_pipeline import data

    try:
        return torch.tensor(int(text))
    except ValueError:
        return data.read_classes(Path(text))


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    from verify_pipeline.settings import number

    try:
        return () if text is None else tuple(number(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
