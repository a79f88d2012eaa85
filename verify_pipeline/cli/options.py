"""Arguments and options of the commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from verify_pipeline.cli import panels
from verify_pipeline.errors import ConfigError

RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="Name of a recipe (see `recipes`), or path of a YAML file."
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder that holds the data sets. Default: the environment variable "
        "VERIFY_PIPELINE_DATA, then downloads.",
        rich_help_panel=panels.MACHINE,
    ),
]


def folder(text: str | Path) -> Path:
    """The folder of an option, as typed; an empty text would be the current one.

    Raises:
        ConfigError: it is empty.
    """
    if text == "":
        raise ConfigError("folder ''", expected="a folder's name", got="an empty one")
    return Path(text)


Out = Annotated[
    Path,
    typer.Option(
        parser=folder,
        metavar="PATH",
        help="Folder for everything that is made; the same command continues there.",
        rich_help_panel=panels.OUTPUT,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where to compute: auto (CUDA if there is one), cpu, cuda, cuda:1, …",
        rich_help_panel=panels.MACHINE,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a value of the recipe, such as train.loss.alpha=0.5. Repeatable.",
        rich_help_panel=panels.RECIPE,
    ),
]

# What a certification is of, and where its verdicts go.
NetworkFile = Annotated[
    Path, typer.Argument(help="ONNX file: takes pixels in [0, 1], gives logits.")
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Data set. Default: the recipe's, or the one the file was trained on.",
        rich_help_panel=panels.IMAGES,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(help="test or train.", show_default="test", rich_help_panel=panels.IMAGES),
]
ClassOrder = Annotated[
    str | None,
    typer.Option(
        help="How the network numbers the classes of tinyimagenet or imagenet64: sorted (by "
        "WordNet id, as torchvision numbers folders) or published (wnids.txt; the labels 1..1000). "
        "Default: as the file was trained, else sorted for tinyimagenet, published for imagenet64.",
        rich_help_panel=panels.IMAGES,
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        help="Your own images instead of a data set: a .npy file, N x C x H x W, bytes or "
        "floats in [0, 1].",
        rich_help_panel=panels.IMAGES,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(help="Their labels: a .npy file of N integers.", rich_help_panel=panels.IMAGES),
]
LedgerFile = Annotated[
    Path | None,
    typer.Option(
        help="SQLite file of verdicts. Default: ledger.sqlite beside the network.",
        rich_help_panel=panels.OUTPUT,
    ),
]

# Settings of a certification.
RecipeOption = Annotated[
    str | None,
    typer.Option(
        help="Take the certification's settings and the data set from this recipe.",
        rich_help_panel=panels.SEARCH,
    ),
]
Indices = Annotated[
    str | None,
    typer.Option(
        help="Which images: 100 (the first), 0:1000, ::10, or 3,7,9; 99:100 is one.",
        rich_help_panel=panels.IMAGES,
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        help="Seconds for each image. Default: as the recipe, --search or the list says, else 360.",
        rich_help_panel=panels.SEARCH,
    ),
]
GiveUp = Annotated[
    float | None,
    typer.Option(
        help="Give a search up, after 15 % of its time, once it is expected to take more than "
        "so many times its seconds, at the rate at which it makes progress; 3 is careful. "
        "Default: never.",
        rich_help_panel=panels.SEARCH,
    ),
]
STAGES = {
    "clean": "classifies the image itself; always first",
    "ibp": "interval bounds",
    "attack": "gradient descent towards a counterexample",
    "crown": "linear bounds of every layer (CROWN)",
    "alpha-crown": "CROWN with optimised slopes of the ReLUs",
    "branch-and-bound": "splits ReLUs and inputs until a proof or a counterexample is complete",
    "abcrown": "α,β-CROWN, a program of its own; only if named, or with --engine abcrown",
}
"""Each stage in order, with one line about it; ``certify.settings`` checks names and order."""

Stages = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Which stages run, comma-separated, in this order. Each takes the images that those "
        "before it leave open. Default: all but abcrown, or as the recipe says.\n\n"
        + "\n\n".join(f"{n}. {name}: {STAGES[name]}." for n, name in enumerate(STAGES, 1)),
        rich_help_panel=panels.SEARCH,
    ),
]
Search = Annotated[
    str | None,
    typer.Option(
        help="Settings of α-CROWN and branch and bound: a name in abcrown_configs/, or the "
        "path of a YAML file in α,β-CROWN's schema.",
        rich_help_panel=panels.SEARCH,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        help="builtin, or abcrown: α,β-CROWN, a program of its own, instead of our branch and "
        "bound; what it calls safe is counted apart. --search names its configuration.",
        rich_help_panel=panels.SEARCH,
    ),
]
AbcrownHome = Annotated[
    Path | None,
    typer.Option(
        help="Checkout of α,β-CROWN. Default: the environment variable ABCROWN_HOME, then the "
        "installed package abcrown.",
        rich_help_panel=panels.ABCROWN,
    ),
]
AbcrownPython = Annotated[
    Path | None,
    typer.Option(
        help="Python of α,β-CROWN's environment. Default: the environment variable "
        "ABCROWN_PYTHON, then this one.",
        rich_help_panel=panels.ABCROWN,
    ),
]
AbcrownMemory = Annotated[
    int | None,
    typer.Option(
        help="MiB of address space that α,β-CROWN may take, on Linux; not with CUDA.",
        rich_help_panel=panels.ABCROWN,
    ),
]
Parity = Annotated[
    bool,
    typer.Option(
        "--parity-check/--no-parity-check",
        help="Compare the network as it is read with onnxruntime, at batch sizes 1 and 5 and in "
        "some of the boxes. Without that, proofs rest on the reader alone; counterexamples are "
        "replayed in any case.",
        rich_help_panel=panels.CHECKS,
    ),
]
Retry = Annotated[
    bool,
    typer.Option(
        "--retry",
        help="Try images again that the ledger calls unknown.",
        rich_help_panel=panels.SEARCH,
    ),
]


@dataclass(frozen=True)
class Pictures:
    """Which images, as typed; None where an option was not given."""

    data: Data = None
    class_order: ClassOrder = None
    split: Split = None
    images: Images = None
    labels: Labels = None


@dataclass(frozen=True)
class Abcrown:
    """Where α,β-CROWN is and what it may take, as typed."""

    abcrown_home: AbcrownHome = None
    abcrown_python: AbcrownPython = None
    abcrown_memory: AbcrownMemory = None


@dataclass(frozen=True)
class Where:
    """Where data comes from, and where it is computed, as typed."""

    data_root: DataRoot = None
    device: Device = "auto"
