"""Settings of a certification as value objects; a recipe's YAML maps onto them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator
from pydantic.dataclasses import dataclass

from verify_pipeline.attacks.falsify import FalsifySettings
from verify_pipeline.branching.config.abcrown_schema import ignored_values, read_search
from verify_pipeline.branching.config.search_settings import AttackChoice, SearchSettings
from verify_pipeline.certify.records import settings_digest
from verify_pipeline.certify.stage_settings import (
    AlphaCrownSettings,
    FewInputSettings,
    StageShares,
)
from verify_pipeline.errors import ConfigError
from verify_pipeline.settings import STRICT, Positive, PositiveCount, Switch, Text, Unit

SEARCH_FOLDER = Path(__file__).resolve().parents[2] / "abcrown_configs"
"""Folder of the search's files: beside the package, in a checkout and in an installation."""

ABCROWN_DEFAULT = "default"
"""The file that α,β-CROWN uses by default."""

ArithmeticName = Literal["float32", "float16", "bfloat16", "mixed-float16", "mixed-bfloat16"]
"""Names of ``network.arithmetic.ARITHMETICS``."""

StageName = Literal["clean", "ibp", "attack", "crown", "alpha-crown", "branch-and-bound", "abcrown"]

ALL_STAGES: tuple[StageName, ...] = (
    "clean",
    "ibp",
    "attack",
    "crown",
    "alpha-crown",
    "branch-and-bound",
)
"""The stages of this package; ``abcrown``, which asks another tool, may follow them."""

_ORDER: tuple[StageName, ...] = (*ALL_STAGES, "abcrown")


def _cascade(stages: tuple[StageName, ...]) -> tuple[StageName, ...]:
    if not stages or stages[0] != "clean":
        raise ValueError("expected clean as the first stage: the others take right answers only")
    if len(set(stages)) < len(stages):
        raise ValueError("expected each stage once")
    if stages != tuple(name for name in _ORDER if name in stages):
        # A table's "verified by α-CROWN or weaker" requires that weaker stages run first.
        raise ValueError(f"expected the stages in this order: {', '.join(_ORDER)}")
    return stages


def _index_text(value: Any) -> Any:
    """A count n as the text ``:n``."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value < 0:
        raise ValueError(f"expected a count of images, or text such as '0:100'; got {value}")
    return f":{value}"


def _readable(text: str) -> str:
    try:
        parse_indices(text, 0)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("indices; ")) from None
    return text


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CertifySettings:
    """One certification.

    Attributes:
        epsilon: half-width of the boxes, pixels in [0, 1].
        stages: some of :data:`ALL_STAGES` in that order; the first is ``clean``, the last may be
            ``abcrown``.
        search: α-CROWN's and the branch and bound's settings, or the name or path of a YAML file
            in α,β-CROWN's schema that holds them; see abcrown_configs/.
        timeout: seconds that one image may take, counting its share of each batch it is in; None:
            as the search's settings say.
        attack: the attack stage's; None: as the search's settings say, which may also leave the
            attack out, or this package's defaults where they say nothing of it.
        shares: of the time left that single stages may take.
        alpha_crown: the α-CROWN stage's.
        input_split: when boxes are split at their inputs.
        indices: which images: ``a:b`` or ``a:b:step`` as Python's, a list ``3,7,9``, a count n for
            the first n; ``:`` for all.
        memory: MiB that a batch may take, about.
        batch: images that bounds and the attack take at once, at most; None: 64 on a CPU, whose
            caches like them small, 1024 on an accelerator. Branch and bound takes all open images.
        retry: whether images that are UNKNOWN in the ledger are tried again (those that ran out
            of time, or were given up, are whenever they are given more of it).
        give_up: after 15 % of its time, a search is given up once it is expected to take more
            than so many times its seconds (``branching/limits/progress_estimate.py``); None: never.
        arithmetic: VERIFIED has to hold for every evaluation of the file in it: any order of
            summation, operations fused or not, small numbers flushed to zero or not. The file's
            weights have to be numbers of it; in mixed precision, others are rounded first. None:
            VERIFIED is about real numbers.
    """

    epsilon: Unit
    stages: Annotated[tuple[StageName, ...], AfterValidator(_cascade)] = ALL_STAGES
    search: Text | SearchSettings = SearchSettings()
    timeout: Positive | None = None
    attack: FalsifySettings | None = None
    shares: StageShares = StageShares()
    alpha_crown: AlphaCrownSettings = AlphaCrownSettings()
    input_split: FewInputSettings = FewInputSettings()
    indices: Annotated[Text, BeforeValidator(_index_text), AfterValidator(_readable)] = ":"
    memory: PositiveCount = 2048
    batch: PositiveCount | None = None
    retry: Switch = False
    give_up: Positive | None = None
    arithmetic: ArithmeticName | None = None


def asking_abcrown(settings: CertifySettings) -> CertifySettings:
    """The same certification with α,β-CROWN as its last stage, instead of our branch and bound."""
    kept = tuple(name for name in settings.stages if name not in ("branch-and-bound", "abcrown"))
    return replace(settings, stages=(*kept, "abcrown"))


@plain_dataclass(frozen=True)
class Plan:
    """:class:`CertifySettings` with every default resolved, from which stages are built.

    Attributes:
        stages: in order.
        search: the search's settings.
        attack: the attack stage's.
        timeout: seconds for each image.
        memory: bytes that a batch may take, about.
        batch: images that bounds and the attack take at once; None: as the device likes it.
        shares: of the time left that single stages may take.
        alpha_crown: the α-CROWN stage's.
        input_split: when boxes are split at their inputs.
        abcrown: the configuration that α,β-CROWN is run with, YAML in its schema; empty where it
            is not run.
        ignored: keys of the search's file that have no effect, because only α,β-CROWN follows them
            and it is not run; see ``SearchFile.ignored``.
        arithmetic: in which every evaluation has to be right; empty: VERIFIED is about real
            numbers.
    """

    stages: tuple[StageName, ...]
    search: SearchSettings
    attack: FalsifySettings
    timeout: float
    memory: int
    batch: int | None
    shares: StageShares
    alpha_crown: AlphaCrownSettings
    input_split: FewInputSettings
    abcrown: str = ""
    ignored: tuple[str, ...] = ()
    arithmetic: str = ""

    @property
    def tried(self) -> str:
        """Everything that decides which verdicts an image can get, as JSON; not time and memory."""
        chosen = {
            "stages": self.stages,
            "search": {k: v for k, v in asdict(self.search).items() if k not in _ROOM},
            "attack": asdict(self.attack),
            "shares": asdict(self.shares),
            "alpha_crown": asdict(self.alpha_crown),
            "input_split": asdict(self.input_split),
        }
        if self.abcrown:
            chosen["abcrown"] = self.abcrown
        if self.arithmetic:
            chosen["arithmetic"] = self.arithmetic
        return json.dumps(chosen, sort_keys=True)

    @property
    def digest(self) -> str:
        """Short SHA-256 of :attr:`tried`, in hexadecimal (16 digits)."""
        return settings_digest(self.tried)


_ROOM = ("timeout", "give_up", "max_bytes", "batch", "attack")
"""Fields of the search that are not part of the key; the attack is a key of its own."""


def plan(settings: CertifySettings) -> Plan:
    """Resolve the defaults of settings.

    Raises:
        ConfigError: the search's file is missing or something in it is wrong, or α,β-CROWN is asked
            about an arithmetic.
    """
    search, abcrown = settings.search, ""
    if settings.arithmetic is not None and "abcrown" in settings.stages:
        raise ConfigError(
            "arithmetic",
            expected="stages of this package",
            got="abcrown, whose answers are not about a file's arithmetic",
            remedy="Leave out the arithmetic, or the stage.",
        )
    if "abcrown" in settings.stages:
        abcrown = search_text(search if isinstance(search, str) else ABCROWN_DEFAULT)
    if isinstance(search, str):
        file = read_search(search_file(search))
        search, ignored = file.settings, file.ignored
        attack = _attack(search.attack)
    else:
        ignored = ignored_values(search)
        attack = FalsifySettings() if search.attack == AttackChoice() else _attack(search.attack)
    stages = settings.stages
    if settings.attack is None and search.attack.order == "skip":
        stages = tuple(name for name in stages if name != "attack")
    if settings.give_up is not None:
        search = replace(search, give_up=settings.give_up)
    return Plan(
        stages,
        search,
        settings.attack or attack,
        search.timeout if settings.timeout is None else settings.timeout,
        settings.memory << 20,
        settings.batch,
        settings.shares,
        settings.alpha_crown,
        settings.input_split,
        abcrown,
        () if abcrown else ignored,
        settings.arithmetic or "",
    )


def _attack(choice: AttackChoice) -> FalsifySettings:
    """The attack stage's settings: a round starts at a point of its own for each target."""
    settings = FalsifySettings(steps=choice.steps)
    return replace(settings, restarts=math.ceil(choice.restarts / settings.targets))


def search_file(name: str) -> Path:
    """The YAML file of that name in abcrown_configs/, or at that path.

    Raises:
        ConfigError: there is none.
    """
    for path in (Path(name), SEARCH_FOLDER / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in SEARCH_FOLDER.glob("*.yaml")))
    raise ConfigError(f"search {name!r}", expected=f"a YAML file's path, or one of {known}")


def search_text(name: str) -> str:
    """The content of that file, as α,β-CROWN is given it.

    Raises:
        ConfigError: there is none, or it is no text.
    """
    path = search_file(name)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), expected="a readable UTF-8 file", got=str(error)) from None


def parse_indices(text: str, count: int) -> list[int]:
    """The indices in ``range(count)`` that ``text`` names, in order, without repetition.

    The bounds of ``a:b`` may lie beyond the end, as Python's may; ``:n`` is a count of images and
    may not.

    Raises:
        ConfigError: the text is malformed, or names an image beyond the end.
    """
    expected = "a:b, a:b:step, a list such as 3,7,9, or a count"
    try:
        if ":" in text:
            start, stop, step = [
                int(part) if part.strip() else None for part in (*text.split(":"), "", "")[:3]
            ]
            if text.count(":") > 2 or (step is not None and step < 1):
                raise ValueError(text)
            if start is None and step is None and stop is not None and stop > count > 0:
                raise ConfigError(
                    "indices",
                    expected=f"at most {count} images",
                    got=f"{stop}, which is read as a count",
                    remedy=f"Image {stop} alone would be {stop}:{stop + 1}.",
                )
            return list(range(count)[start:stop:step])
        places = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ConfigError("indices", expected=expected, got=repr(text[:40])) from None
    if places[0] < 0:
        raise ConfigError(
            "indices",
            expected="places of images, which are counted from 0",
            got=str(places[0]),
            remedy=f"The last images are {places[0]}: (with a colon), as in Python.",
        )
    if count > 0 and places[-1] >= count:
        raise ConfigError("indices", expected=f"images from 0 to {count - 1}", got=str(places[-1]))
    return places
