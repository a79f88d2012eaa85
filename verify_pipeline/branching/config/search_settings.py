"""Settings of a search, as value objects; ``abcrown_schema`` reads them from YAML.

All settings except time and memory can change verdicts; therefore they are part of a run's key in
the ledger. A mechanism whose settings are None is off.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from verify_pipeline.bounds import MemoryBudget, OptimiseSettings
from verify_pipeline.branching.heuristics import HEURISTICS
from verify_pipeline.settings import STRICT, Count, NonNegative, Positive, PositiveCount, Text


def _heuristic(name: str) -> str:
    if name not in HEURISTICS:
        raise ValueError(f"expected one of {', '.join(map(repr, HEURISTICS))}")
    return name


HeuristicName = Annotated[Text, AfterValidator(_heuristic)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BranchingSettings:
    """The branching heuristics, by their names in ``branching.heuristics``.

    Attributes:
        method: heuristic for ReLUs. ``babsr`` takes the neuron with the best score. ``kfsb`` bounds
            the children of a few candidates and takes the best one. ``fsb`` does the same with
            candidates of every layer.
        candidates: number of neurons per score whose children kFSB and FSB bound.
        lookahead: ascent on the children of candidates if their first bounds do not distinguish
            them; None: the first bounds decide.
        wider: the look-ahead considers this many times ``candidates``.
        intervals: heuristic for intervals of smooth neurons.
        inputs: heuristic for inputs.
    """

    method: HeuristicName = "kfsb"
    candidates: PositiveCount = 3
    lookahead: OptimiseSettings | None = OptimiseSettings(
        iterations=5, lr_alpha=0.05, lr_beta=0.1, lr_planes=0.0
    )
    wider: PositiveCount = 4
    intervals: HeuristicName = "gain"
    inputs: HeuristicName = "gain"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BoxCutoffSettings:
    """The objective cutoff on the box: bounds over the part where a row may be at most zero.

    See ``improve.cutoff_on_box``. A domain *lacks* the distance of its bound below zero.

    Attributes:
        rounds: largest number of rounds for a domain.
        full_rounds: largest number of rounds in which all operations are relaxed again.
        share: a neuron is bounded if its relaxation costs more than this share of what the domain
            lacks.
        most_blame: all operations are relaxed again if ReLUs explain less than this share of what
            the domain lacks.
        iterations: ascent steps per round; each round starts from the multipliers of the last one.
        least_gain: another round follows if a round gains at least this share of what the domain
            lacked.
        tries: largest number of domains of a batch that are tried; each took 0.1 to 0.4 s.
        steps: approximate bound evaluations that a try counts as.
    """

    rounds: PositiveCount = 12
    full_rounds: PositiveCount = 3
    share: Positive = 0.005
    most_blame: Positive = 0.9
    iterations: PositiveCount = 4
    least_gain: Positive = 0.1
    tries: PositiveCount = 8
    steps: PositiveCount = 200


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EarlySplitSettings:
    """Early splits: splits of early ReLUs with new bounds of all neurons (``search.early_split``).

    Attributes:
        few: early splits are promising up to this number of unstable neurons in the first layer
            that has any.
        most: largest number of open cells of an instance; then no more cells are made.
        neurons: ascent for each bound of a neuron.
        margins: ascent for the margins.
        first: work of ReLU splits on an instance before its first cells, in domains.
        first_parts: the same in cells; the greater of the two counts.
        better: share of the work for the search that is more promising.
        growth: the turns of a round add this share of all work on the instance so far.
        late: multiple of ``first`` and ``first_parts`` if early splits are not promising.
        until: share of an instance's time after which cells are only searched, not cut any more.
    """

    few: PositiveCount = 64
    most: PositiveCount = 512
    neurons: OptimiseSettings = OptimiseSettings(iterations=5, lr_alpha=0.5, lr_beta=0.2, decay=0.8)
    margins: OptimiseSettings = OptimiseSettings(iterations=8, lr_alpha=0.4, decay=0.85)
    first: PositiveCount = 256
    first_parts: PositiveCount = 4
    better: Positive = 0.75
    growth: Positive = 0.5
    late: PositiveCount = 16
    until: Positive = 0.8


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InputSplitSettings:
    """Splits of inputs (``search.input_split``).

    Attributes:
        descent: gradient steps of the attacks from the middles of parts; 0: none.
        first_descents: number of bounded parts of an instance at which descents begin; they are
            repeated whenever the number has doubled.
        slopes: weight of the linear bound's range along an input, relative to the relaxation gap
            that the input is responsible for.
        widths: weight of the inputs' widths, for effects that neither of the other terms sees.
        few: up to this number of free inputs, splits of ReLUs or intervals leave a part of the time
            to splits of inputs; with more free inputs, these get only what is left over.
        share: share of an instance's time for a kind of split before the next one begins.
    """

    descent: Count = 50
    first_descents: PositiveCount = 1024
    slopes: NonNegative = 0.25
    widths: NonNegative = 0.1
    few: PositiveCount = 64
    share: Positive = 0.5


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttackChoice:
    """The attack that the file asks for; stages before the search run it.

    Attributes:
        order: when it runs, relative to the bounds at the root.
        steps: steps of projected gradient descent.
        restarts: number of random starts.
    """

    order: Literal["before", "after", "middle", "input_bab", "skip"] = "before"
    steps: PositiveCount = 100
    restarts: PositiveCount = 30


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SearchSettings:
    """Settings of branch and bound.

    Attributes:
        batch: largest number of domains that are split at once, of all instances together.
        root: ascent on α before the first split.
        domain: ascent on α and β in each domain.
        branching: the branching heuristics.
        descent: gradient steps of the corner attack (``evaluate.corner_attack``); 0: none.
        timeout: seconds that one instance may be charged.
        tighten: ascent on a separate α for each bound of each unstable neuron at the root, for
            instances with a long search (``improve.optimise_at_root``).
        box_cutoff: the objective cutoff on the box; None: off.
        early: early splits, in turns with the usual splits of ReLUs; None: off.
        inputs: splits of inputs.
        max_domains: an instance is given up after this number of domains; None: no limit.
        give_up: an instance is given up once its search is expected to take more than this multiple
            of its seconds (``limits.progress_estimate``); None: never.
        max_bytes: limit for all open domains together; beyond it, the instance with most open
            domains is given up.
        budget: memory for the intermediate tensors of one call.
        attack: the attack that the same file asks for.
    """

    batch: PositiveCount = 64
    root: OptimiseSettings = OptimiseSettings(iterations=100, lr_alpha=0.1)
    tighten: OptimiseSettings = OptimiseSettings(iterations=6, lr_alpha=0.4, decay=0.85)
    domain: OptimiseSettings = OptimiseSettings(iterations=10, lr_alpha=0.05, lr_beta=0.1)
    branching: BranchingSettings = BranchingSettings()
    descent: Count = 40
    timeout: Positive = 360.0
    box_cutoff: BoxCutoffSettings | None = BoxCutoffSettings()
    early: EarlySplitSettings | None = EarlySplitSettings()
    inputs: InputSplitSettings = InputSplitSettings()
    max_domains: Count | None = None
    give_up: Positive | None = None
    max_bytes: PositiveCount = 1 << 31
    budget: MemoryBudget = MemoryBudget()
    attack: AttackChoice = AttackChoice()

    @property
    def allowed_multiple(self) -> float:
        """Multiple of its seconds that a search may be expected to take; infinite: any."""
        return math.inf if self.give_up is None else self.give_up
