"""Options about the question: how much images may change, and what has to hold."""

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
        "[0, 1]. With commas: one number per channel. Default: the recipe's, or the one the file "
        "was trained for.",
        rich_help_panel=panels.QUESTION,
    ),
]
EpsilonFile = Annotated[
    Path | None,
    typer.Option(
        help="A half-width for each pixel instead: a .npy file that broadcasts to an image.",
        rich_help_panel=panels.QUESTION,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Mean of normalised pixels: one number, or one per channel with commas. The network "
        "gets (x - mean) / std; boxes remain boxes of pixels in [0, 1].",
        rich_help_panel=panels.QUESTION,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        help="Standard deviation for --mean, with as many numbers.", rich_help_panel=panels.QUESTION
    ),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="Axis order of the network's input: nchw or nhwc. Default: inferred from its shape.",
        rich_help_panel=panels.QUESTION,
    ),
]
Lower = Annotated[
    Path | None,
    typer.Option(
        help="Explicit boxes instead of ε: a .npy file of lower limits, N x the network's input. "
        "--images may name a point of each box; with --rows, --labels may be omitted.",
        rich_help_panel=panels.QUESTION,
    ),
]
Upper = Annotated[
    Path | None,
    typer.Option(
        help="Upper limits of these boxes, a .npy file of the same shape.",
        rich_help_panel=panels.QUESTION,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="Require only that the label beats this class; or a .npy file, one class per image.",
        rich_help_panel=panels.QUESTION,
    ),
]
TopKOption = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        help="Require only that the label stays among the k best classes.",
        rich_help_panel=panels.QUESTION,
    ),
]
Rows = Annotated[
    Path | None,
    typer.Option(
        help="Require C f + d > 0 in every row, for outputs f: a .npy file of C, S x K for all "
        "images or N x S x K for each.",
        rich_help_panel=panels.QUESTION,
    ),
]
Offsets = Annotated[
    Path | None,
    typer.Option(
        help="Offsets d for --rows: a .npy file, S or N x S. Default: zeros.",
        rich_help_panel=panels.QUESTION,
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
    """Explicit boxes, as typed; None where an option was not given."""

    lower: Lower = None
    upper: Upper = None


def question_of(typed: Typed) -> Question:
    """The question that the options ask, without a single ε, which belongs to the settings.

    Raises:
        ConfigError: options exclude each other, or a number is invalid.
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
        """The boxes' name in ledgers and tables."""
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
    """The boxes that `--lower` and `--upper` name; None if neither was given.

    Args:
        lower: path, or None where the option was not given.
        upper: path, or None where the option was not given.
        images: path of points in the boxes, or None.
        labels: path, or None.
        others: by name, options that these exclude; None where not given.

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
