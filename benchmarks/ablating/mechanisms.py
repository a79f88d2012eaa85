"""The mechanisms that can be turned off, and how.

A mechanism is a function that is replaced by one that does nothing, a stage that is left out, or a
setting of the search. What a verdict rests on is no mechanism: nothing here weakens it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import verify_pipeline
from verify_pipeline.bounds.relaxations.smooth import curve
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.exact.lp_leaf import Leaf
from verify_pipeline.certify.root_bounds import root_bounds

PACKAGE = Path(verify_pipeline.__file__).parent


@dataclass(frozen=True)
class Mechanism:
    """What is turned off.

    Attributes:
        name: as the literature has it.
        paper: where it is from; empty: this package's own.
        part: dotted name of a function that is called in every task in which it has a part.
        files: modules that would go with it, relative to the package; none: lines of a file.
        instead: what that function is replaced by; None: it stays.
        also: dotted names of others, and what they are replaced by.
        search: the search's settings without the mechanism; None: as they are.
        stage: of the cascade that is left out; empty: none.
    """

    name: str
    paper: str
    part: str
    files: tuple[str, ...] = ()
    instead: Callable[..., Any] | None = None
    also: Mapping[str, Any] = field(default_factory=dict)
    search: Callable[[SearchSettings], SearchSettings] | None = None
    stage: str = ""

    @property
    def lines(self) -> int:
        """Lines of its files."""
        texts = ((PACKAGE / name).read_text(encoding="utf-8") for name in self.files)
        return sum(len(text.splitlines()) for text in texts)

    @contextmanager
    def off(self) -> Iterator[None]:
        """While it lasts, its functions are replaced."""
        own = {} if self.instead is None else {self.part: self.instead}
        with ExitStack() as stack:
            for name, other in {**own, **self.also}.items():
                stack.enter_context(mock.patch(f"verify_pipeline.{name}", other))
            yield


@contextmanager
def counted(part: str, calls: dict[str, int]) -> Iterator[None]:
    """While it lasts, calls of the function of that dotted name are counted in ``calls``."""
    name = f"verify_pipeline.{part}"
    original = pkgutil.resolve_name(name)

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls[part] = calls.get(part, 0) + 1
        return original(*args, **kwargs)

    with mock.patch(name, counting):
        yield


def _no_optimisation(self: object, bounder: Any, instance: Tensor, meter: object) -> Any:
    return bounder


def _slopes_times_widths(
    graph: object,
    box: Any,
    bounds: object,
    lost: object,
    slopes: Tensor,
    whole: object,
    settings: object,
) -> Tensor:
    return (slopes.abs() * (box.upper - box.lower)).flatten(1).nan_to_num(0.0, 0.0, 0.0)


def _open(self: object, domain: Any) -> Leaf:
    return Leaf(torch.full_like(domain.lower.double(), -torch.inf), None)


def _without(name: str) -> Callable[[SearchSettings], SearchSettings]:
    """The settings with one mechanism of them off."""
    off: dict[str, Any] = {name: None}
    return lambda settings: replace(settings, **off)


def _branching(**changes: Any) -> Callable[[SearchSettings], SearchSettings]:
    return lambda settings: replace(settings, branching=replace(settings.branching, **changes))


class _Nothing:
    """A relaxation that none is of."""


MECHANISMS = (
    Mechanism(
        "attack before bounds",
        "PGD, arXiv:1706.06083",
        "certify.stages.attack.AttackStage.run",
        ("certify/stages/attack.py", "attacks/falsify.py", "attacks/pgd.py"),
        stage="attack",
    ),
    Mechanism(
        "IBP before CROWN",
        "IBP, arXiv:1810.12715",
        "certify.stages.ibp.IntervalStage.run",
        ("certify/stages/ibp.py",),
        stage="ibp",
    ),
    Mechanism(
        "CROWN before α-CROWN",
        "CROWN, arXiv:1811.00866",
        "certify.stages.crown.CrownStage.run",
        ("certify/stages/crown.py",),
        stage="crown",
    ),
    Mechanism(
        "α-CROWN before branch and bound",
        "α-CROWN, arXiv:2011.13824",
        "certify.stages.alpha_crown.AlphaCrownStage.run",
        ("certify/stages/alpha_crown.py",),
        stage="alpha-crown",
    ),
    Mechanism(
        "layers only of images still open",
        "",
        "certify.stages.crown.root_bounds",
        instead=lambda subject, task, budget, wanted: root_bounds(subject, task, budget),
    ),
    Mechanism(
        "receptive fields",
        "",
        "bounds.intermediate.neuron_batches.receptive_field",
        ("bounds/intermediate/receptive_field.py", "bounds/intermediate/windows.py"),
        instead=lambda graph, place: None,
    ),
    Mechanism(
        "optimised tangents",
        "GenBaB, arXiv:2405.21063",
        "bounds.relaxations.relaxed_graph.tangents",
        ("bounds/relaxations/tangents.py",),
        instead=curve,
    ),
    Mechanism(
        "optimised planes of products and tangents",
        "arXiv:2002.06622",
        "bounds.optimise.alpha_beta.PlanePositions.of",
        ("bounds/optimise/plane_positions.py", "branching/improve/root_plane_positions.py"),
        also={"bounds.optimise.alpha_beta.OptimisableRelaxation": _Nothing},
    ),
    Mechanism(
        "planes of the root in every domain",
        "",
        "branching.search.relu_split.with_planes",
        ("branching/improve/root_plane_positions.py",),
        instead=lambda exact, start: exact,
    ),
    Mechanism(
        "intermediate bounds optimised at the root",
        "α-CROWN, arXiv:2011.13824",
        "branching.improve.optimise_at_root.RootOptimisation.after",
        ("branching/improve/optimise_at_root.py",),
        instead=_no_optimisation,
    ),
    Mechanism(
        "early splits with new bounds",
        "Neurify, arXiv:1809.08098",
        "branching.search.portfolio.CellSearch.cut",
        (
            "branching/search/early_split.py",
            "branching/search/cell_search.py",
            "branching/search/portfolio.py",
        ),
        search=_without("early"),
    ),
    Mechanism(
        "objective cutoff on the box",
        "arXiv:2302.01404",
        "branching.improve.cutoff_on_box.BoxCutoff._tried",
        ("branching/improve/cutoff_on_box.py", "bounds/linear/halfspace_box.py"),
        search=_without("box_cutoff"),
    ),
    Mechanism(
        "candidates bounded (kFSB)",
        "arXiv:2104.06718",
        "branching.search.relu_split.choose",
        search=_branching(method="babsr"),
    ),
    Mechanism(
        "candidates optimised where none lifts both",
        "strong branching, Achterberg 2009",
        "branching.evaluate.relu_choice.lifts_both",
        search=_branching(lookahead=None),
    ),
    Mechanism(
        "corner attack",
        "",
        "branching.search.relu_split.descend",
        ("branching/evaluate/corner_attack.py",),
        search=lambda settings: replace(settings, descent=0),
    ),
    Mechanism(
        "exact leaves by linear programs",
        "",
        "branching.evaluate.bounder.Bounder.leaf",
        ("branching/exact/lp_leaf.py", "branching/exact/affine.py"),
        instead=_open,
    ),
    Mechanism(
        "interval splits of smooth neurons",
        "GenBaB, arXiv:2405.21063",
        "branching.search.ways.split_intervals",
        ("branching/search/interval_split.py",),
        also={
            "branching.search.ways.can_be_cut": lambda graph: False,
            "branching.search.ways.has_smooth_neurons": lambda graph: False,
        },
    ),
    Mechanism(
        "input splits before ReLU splits",
        "arXiv:1711.00455",
        "certify.stages.input_split.InputSplitStage._is_affordable",
        ("certify/stages/input_split.py",),
        instead=lambda self, task, known: False,
    ),
    Mechanism(
        "input scores from what is lost",
        "smart branching, arXiv:1804.10829",
        "branching.search.input_split.input_scores",
        ("branching/evaluate/input_scores.py",),
        instead=_slopes_times_widths,
    ),
)
"""In the order in which an image meets them."""
