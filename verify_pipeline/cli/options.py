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
    """The folder that an option names; an empty text, which would mean the current one, is refused.

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
        help="Folder for all output; the same command continues a run there.",
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
        help="Replace a value of the recipe, for example train.loss.alpha=0.5. Repeatable.",
        rich_help_panel=panels.RECIPE,
    ),
]

# The network and the images of a certification, and its ledger.
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
    typer.Option(
        help="Part of the data set: test or train.",
        show_default="test",
        rich_help_panel=panels.IMAGES,
    ),
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
    typer.Option(
        help="Labels of --images or of boxes: a .npy file of N integers.",
        rich_help_panel=panels.IMAGES,
    ),
]
LedgerFile = Annotated[
    Path | None,
    typer.Option(
        help="SQLite file of verdicts. Default: ledger.sqlite beside the network.",
        rich_help_panel=panels.OUTPUT,
    ),
]

Literature = Annotated[
    bool,
    typer.Option(
        "--literature",
        help="Add published results on the same data and ε, and the differences to them.",
        rich_help_panel=panels.TABLE,
    ),
]

# Settings of a certification.
RecipeOption = Annotated[
    str | None,
    typer.Option(
        help="Recipe that supplies the certification's settings and the data set.",
        rich_help_panel=panels.SEARCH,
    ),
]
Indices = Annotated[
    str | None,
    typer.Option(
        help="100 (the first 100), 0:1000, ::10, or 3,7,9; 99:100 is image 99 alone.",
        rich_help_panel=panels.IMAGES,
    ),
]
ShardText = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="The I-th of N parts of these images, into a ledger of its own: see `ledger merge`.",
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
        help="Give up a search, after 15 % of its time, once its progress suggests that it needs "
        "more than this many times its seconds; 3 is cautious. Default: never.",
        rich_help_panel=panels.SEARCH,
    ),
]
ArithmeticOption = Annotated[
    str | None,
    typer.Option(
        "--arithmetic",
        help="Verify the file as deployed: for every evaluation in float32, float16, bfloat16, "
        "mixed-float16 or mixed-bfloat16 (sums in float32, results stored or not; "
        "docs/soundness.md). Default: for real numbers.",
        rich_help_panel=panels.CHECKS,
    ),
]
STAGES = {
    "clean": "classifies the image itself; always first",
    "ibp": "interval bounds",
    "attack": "gradient descent towards a counterexample",
    "crown": "linear bounds of every layer (CROWN)",
    "alpha-crown": "CROWN with optimised slopes of the ReLUs",
    "branch-and-bound": "splits ReLUs and inputs until a proof or a counterexample is complete",
    "abcrown": "α,β-CROWN, a separate program; only if named, or with --engine abcrown",
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
        "path of a YAML file in α,β-CROWN's schema. A warning names the keys that are ignored.",
        rich_help_panel=panels.SEARCH,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        help="builtin, or abcrown: α,β-CROWN, a separate program, replaces our branch and bound. "
        "Tables count what it calls safe separately. --search names its configuration.",
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
        help="Compare the network, as this package reads it, with onnxruntime: at batch sizes 1 "
        "and 5, and in some of the boxes. Without this check, proofs trust the reader; "
        "counterexamples are replayed in any case.",
        rich_help_panel=panels.CHECKS,
    ),
]
Retry = Annotated[
    bool,
    typer.Option(
        "--retry",
        help="Retry images that are unknown in the ledger.",
        rich_help_panel=panels.SEARCH,
    ),
]

Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        help="Print only the final result and errors.",
        rich_help_panel=panels.OUTPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print progress and result as JSON, one object a line, and nothing else "
        "(docs/watching.md).",
        rich_help_panel=panels.OUTPUT,
    ),
]


@dataclass(frozen=True)
class Pictures:
    """Options about the images, as typed; None where an option was not given."""

    data: Data = None
    class_order: ClassOrder = None
    split: Split = None
    images: Images = None
    labels: Labels = None


@dataclass(frozen=True)
class TriedOptions:
    """Options about the search, its time and its ledger, as typed."""

    recipe: RecipeOption = None
    indices: Indices = None
    timeout: Timeout = None
    stages: Stages = None
    search: Search = None
    give_up: GiveUp = None
    retry: Retry = False
    parity_check: Parity = True
    ledger: LedgerFile = None


@dataclass(frozen=True)
class Abcrown:
    """Options about α,β-CROWN's installation and memory, as typed."""

    abcrown_home: AbcrownHome = None
    abcrown_python: AbcrownPython = None
    abcrown_memory: AbcrownMemory = None


@dataclass(frozen=True)
class Where:
    """Options about the data folder and the device, as typed."""

    data_root: DataRoot = None
    device: Device = "auto"


@dataclass(frozen=True)
class Shown:
    """Options about what is printed, as typed."""

    quiet: Quiet = False
    json: Json = False
