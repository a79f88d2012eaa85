"""The page docs/reference.md, made from the public Python API itself.

``python docs/reference_page.py`` prints it; with ``--write`` it is written. A public name without a
docstring, or without a place on the page, is an error.
"""

import dataclasses
import enum
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

from verify_pipeline import api

PAGE = Path(__file__).with_name("reference.md")
HEAD = """# Reference: `verify_pipeline.api`

Every public name with its signature and the first sentence of its docstring, and the methods of
what one works with; `help(api.certify)` and the like say the rest. This page is made by
`python docs/reference_page.py --write`.

Shape letters (`N`, `K`, `S`, …) are those of [ARCHITECTURE.md](../ARCHITECTURE.md). `NetworkLike`
is a `Network`, a torch module, or the path of an ONNX file; `ArrayLike` a tensor, a numpy array, or
nested sequences of numbers. A mistake in an argument raises a `VerifyPipelineError`.
"""
WITH_METHODS = (
    "AutoLirpaBounder",
    "Box",
    "CertifyObserver",
    "ImageSet",
    "Ledger",
    "Network",
    "RobustnessDistribution",
    "Specification",
    "Summary",
    "Tally",
    "TrainObserver",
)
"""Classes whose methods are listed; those of the others are for this package."""

RENAMED = {
    thing.__name__: name
    for name in api.__all__
    if inspect.isclass(thing := getattr(api, name)) and thing.__name__ != name
}
"""Classes that the API calls otherwise than their modules do."""

SECTIONS = {
    "Bounds and verdicts of tensors": (
        "bounds",
        "OutputBounds",
        "verify",
        "verify_batch",
        "Verdict",
        "Status",
        "Reason",
        "Counterexample",
        "Box",
        "Specification",
    ),
    "Networks": (
        "load_network",
        "network_from_module",
        "Network",
        "export_onnx",
        "ExportReport",
    ),
    "Images": (
        "load_images",
        "load_arrays",
        "images_of_dataset",
        "ImageSet",
        "BoxSet",
        "DataSetInfo",
        "DataSettings",
        "OwnDataSettings",
    ),
    "Certification of data sets": (
        "certify",
        "CertifySettings",
        "StageShares",
        "AlphaCrownSettings",
        "FewInputSettings",
        "read_search",
        "Summary",
        "Tally",
        "Ledger",
        "CertifyObserver",
        "AbcrownSetup",
        "find_abcrown",
    ),
    "Radii": ("radius", "RobustnessDistribution", "ImageRadius"),
    "Questions": (
        "Question",
        "LinfBall",
        "ChannelBalls",
        "PixelBalls",
        "Margins",
        "TopK",
        "Targeted",
        "LinearRows",
        "Preprocessing",
    ),
    "Training": ("train", "Trained", "TrainSettings", "TrainObserver", "load_trained"),
    "Losses, for a training loop of one's own": (
        "margin_cross_entropy",
        "natural_loss",
        "adversarial_loss",
        "mart_loss",
        "arow_loss",
        "adversarial_certainty",
        "ibp_loss",
        "cc_ibp_loss",
        "mtl_ibp_loss",
        "exp_ibp_loss",
        "crown_ibp_loss",
        "crown_ibp_fused_loss",
        "chord_slopes",
        "sabr_box",
        "taps_loss",
        "LatentMargins",
        "TapsSettings",
        "AttackSettings",
        "connected",
        "gradient_weighted",
        "margins_of_logits",
        "ibp_margins",
        "margin_matrix",
        "AutoLirpaBounder",
        "pgd",
    ),
    "Figures": (
        "plot_accuracy",
        "plot_epsilon",
        "plot_training",
        "plot_stages",
        "plot_cactus",
        "plot_margins",
        "save_figure",
        "inline_svg",
    ),
    "Recipes, results, errors": (
        "recipe_names",
        "load_recipe",
        "Recipe",
        "run",
        "Outcome",
        "tabulate",
        "report",
        "publish",
        "read_ledgers",
        "recheck_ledger",
        "merge_ledgers",
        "Merged",
        "Evidence",
        "VerifyPipelineError",
    ),
    "Sweeps, tunings and fronts": (
        "sweep",
        "SweepResult",
        "SweepRun",
        "tune",
        "TuneResult",
        "TuneTrial",
        "front",
        "FrontComparison",
        "MethodFront",
        "JobWatcher",
    ),
    "Several processes, several machines": ("ProcessGroup", "joined", "Cluster", "Shard"),
}


def unlisted() -> set[str]:
    """Public names that stand in no section, and names of sections that are not public."""
    listed = [name for names in SECTIONS.values() for name in names]
    twice = {name for name in listed if listed.count(name) > 1}
    return set(api.__all__) ^ set(listed) | twice


def page() -> str:
    """The whole page in Markdown."""
    if unlisted():
        raise ValueError(f"give each public name one place in SECTIONS: {sorted(unlisted())}")
    parts = [HEAD]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts.extend(entry(name, getattr(api, name)) for name in names)
    return "\n".join(parts)


def entry(name: str, thing: Any) -> str:
    """One name: its signature as code, its first sentence, and its methods."""
    lines = [f"```text\n{signature(name, thing)}\n```", first_sentence(name, thing)]
    if name in WITH_METHODS:
        lines += [""]
        lines += [method(f"{name}.{each}", found) for each, found in _methods(thing)]
    return "\n".join(lines) + "\n"


def method(name: str, thing: Any) -> str:
    """A public method or property as an item of a list."""
    call = signature(name, thing, width=sys.maxsize).partition(".")[2]
    return f"* `{call}`: {first_sentence(name, thing)}"


def _methods(thing: type) -> Iterator[tuple[str, Any]]:
    """Public functions and properties that a class itself defines, in the order of its code."""
    for name, found in vars(thing).items():
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
        if not name.startswith("_") and isinstance(
            found, FunctionType | property | cached_property
        ):
            yield name, found


def first_sentence(name: str, thing: Any) -> str:
    """The docstring up to its first full stop, its code in Markdown's way.

    Raises:
        ValueError: there is none; the one that dataclasses make up does not count.
    """
    text = thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__
    if not text or (inspect.isclass(thing) and text.startswith(f"{thing.__name__}(")):
        raise ValueError(f"{name} has no docstring")
    paragraph = " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
    sentence = re.split(r"(?<=[^ ]\.)(?<!al\.) (?=[^ ])", paragraph)[0]
    sentence = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", sentence)
    return sentence.replace("``", "`")


def signature(name: str, thing: Any, width: int = 100) -> str:
    """As one would write the call: a line for each parameter where they are too wide for one."""
    if inspect.isclass(thing) and issubclass(thing, enum.Enum):
        return f"class {name}: " + ", ".join(member.name for member in thing)
    if isinstance(thing, property | cached_property):
        getter = thing.fget if isinstance(thing, property) else thing.func
        return f"{name}: {_type(inspect.signature(getter).return_annotation)}"
    kind, returns = ("class ", "") if inspect.isclass(thing) else ("", _returns(thing))
    given = list(_fields(thing) if dataclasses.is_dataclass(thing) else _parameters(thing))
    line = f"{kind}{name}({', '.join(given)}){returns}"
    if len(line) <= width:
        return line
    return f"{kind}{name}(\n" + "".join(f"    {each},\n" for each in given) + f"){returns}"


def _returns(thing: Any) -> str:
    return f" -> {_type(inspect.signature(thing).return_annotation)}"


def _fields(thing: Any) -> Iterator[str]:
    """A dataclass's fields, as its constructor takes them."""
    fields = [field for field in dataclasses.fields(thing) if field.init]
    if fields and all(field.kw_only for field in fields):
        yield "*"
    for field in fields:
        has_default = field.default is not dataclasses.MISSING
        if not has_default and field.default_factory is not dataclasses.MISSING:
            yield f"{field.name}: {_type(field.type)} = …"
        else:
            yield _parameter(field.name, field.type, field.default, has_default)


def _parameters(thing: Any) -> Iterator[str]:
    """A callable's parameters."""
    if inspect.isclass(thing) and ("__init__" not in vars(thing) or is_protocol(thing)):
        return
    starred = False
    for parameter in inspect.signature(thing).parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        has_default = parameter.default is not parameter.empty
        yield _parameter(parameter.name, parameter.annotation, parameter.default, has_default)


def _parameter(name: str, kind: Any, default: object, has_default: bool) -> str:
    declared = f"{name}: {_type(kind)}"
    if not has_default:
        return declared
    simple = default is None or isinstance(default, str | int | float | tuple)
    return f"{declared} = {default!r}" if simple and len(repr(default)) < 40 else f"{declared} = …"


def _type(annotation: Any) -> str:
    """An annotation as it stands in the code, without what only checks it."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    while (found := re.search(r"Annotated\[", text)) is not None:
        text = text[: found.start()] + _first_argument(text[found.end() :])
    return re.sub(r"\b\w+\b", lambda word: RENAMED.get(word[0], word[0]), text)


def is_protocol(thing: type) -> bool:
    """Whether a class is a protocol, which nobody calls."""
    return bool(vars(thing).get("_is_protocol", False))


def _first_argument(text: str) -> str:
    """What follows ``Annotated[`` with only its first argument kept."""
    depth, comma = 0, None
    for place, letter in enumerate(text):
        if letter == "," and depth == 0 and comma is None:
            comma = place
        depth += {"[": 1, "(": 1, "]": -1, ")": -1}.get(letter, 0)
        if depth < 0:
            return text[: place if comma is None else comma] + text[place + 1 :]
    raise ValueError(f"no end of the annotation {text}")


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page())
