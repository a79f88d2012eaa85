"""What a search can be told, as value objects; ``abcrown_schema`` reads them from YAML.

Everything here decides which verdicts an instance can get, and is part of a run's key in the
ledger, but for time and memory. A mechanism whose settings are None is off.
"""

from __future__ import annotations

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
    """How what a subproblem is split at is chosen: names of ``branching.heuristics``.

    Attributes:
        method: for ReLUs. ``babsr`` takes the neuron of the best score; ``kfsb`` bounds the
            children of the best few and takes the best of these; ``fsb`` does so layer by layer.
        candidates: neurons of each of both scores whose children kFSB and FSB bound.
        lookahead: ascent on the children of candidates where their first bounds tell none from
            another; None: the first bounds decide.
        wider: times as many candidates there.
        intervals: for intervals of smooth neurons.
        inputs: for inputs.
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
class CutoffSettings:
    """Bounds of neurons where a domain's row is at most zero (``improve.cutoff_on_neurons``).

    Attributes:
        neurons: of a domain that are bounded; 48 gain a quarter more than 12, in four times the
            time.
        layers: of activations, counted from the last: bounds of earlier ones hardly depend on the
            row.
        ascent: for each bound; 6 steps gain no more than 2.
        gamma: where the row's factor begins, in widths of the neuron by what the row's bound lacks.
        enough: the share of what domains lack that is worth it in any case.
        cost: what it costs, in splits.
        tries: domains of a kind that are tried before their gain is believed.
        memory: what of an old mean stays when there is something new.
    """

    neurons: PositiveCount = 12
    layers: PositiveCount = 3
    ascent: OptimiseSettings = OptimiseSettings(iterations=2, lr_alpha=0.3, lr_beta=0.1, decay=0.85)
    gamma: Positive = 0.15
    enough: float = 0.25
    cost: Positive = 1.7
    tries: PositiveCount = 4
    memory: NonNegative = 0.8

    @property
    def steps(self) -> int:
        """Steps of bounds that it takes for a domain."""
        return 2 * self.neurons * (self.ascent.iterations + 1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BoxCutoffSettings:
    """Bounds over the part of a box where a row may be at most zero (``improve.cutoff_on_box``).

    Attributes:
        rounds: for a domain, at most.
        full_rounds: of those in which all operations are relaxed again.
        share: of what a bound lacks, what a neuron's line costs it for the neuron to be bounded.
        most_blame: relax other operations again if ReLUs explain less than this share of the lack.
        iterations: of the ascent in a round, which goes on where the last one ended.
        least_gain: of what a bound lacks, what a round has to bring for another one.
        tries: domains of a batch that are tried, at most: they took 0.1 to 0.4 s each.
        steps: of bounds that a try counts for, about.
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
    """Splits of early ReLUs with new bounds of all neurons (``search.early_split``).

    Attributes:
        few: unstable neurons of the first layer up to which splitting there settles it soon.
        most: open parts of an instance at which the splitting ends.
        neurons: ascent for each bound of a neuron.
        margins: ascent for the margins.
        first: work on an instance before its turn comes, in domains.
        first_parts: the same in parts by their cost; the greater of both counts.
        better: share of the work for the search that looks better.
        growth: of all work on an instance so far, what is added before each search has had its
            share again.
        late: times as much work before where early splits do not look better.
        until: of an instance's time, after which its parts are searched and not split any more.
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
        descent: gradient steps in search of a counterexample, from parts' middles.
        first_descents: parts of an instance after which there are descents, and again whenever
            they have doubled.
        slopes: weight of what the linear bound varies by along an input, beside what relaxations
            lose by it: of half the input one half gains.
        widths: weight of the inputs' own widths, for what neither of both sees.
        few: free inputs up to which splits of inputs get a part of the time behind other splits;
            of more inputs they get what is left.
        share: of an instance's time, what a kind of split has before the next one begins.
    """

    descent: Count = 50
    first_descents: PositiveCount = 1024
    slopes: NonNegative = 0.25
    widths: NonNegative = 0.1
    few: PositiveCount = 64
    share: Positive = 0.5


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttackChoice:
    """The attack that the file asks for; stages before the search carry it out.

    Attributes:
        order: when, relative to the bounds at the root.
        steps: of projected gradient descent.
        restarts: random starts.
    """

    order: Literal["before", "after", "middle", "input_bab", "skip"] = "before"
    steps: PositiveCount = 100
    restarts: PositiveCount = 30


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SearchSettings:
    """Branch and bound, whole.

    Attributes:
        batch: domains that are split at once, of all instances together.
        root: ascent on α before the first split.
        domain: ascent on α and β in each domain.
        branching: what is split.
        descent: gradient steps from where a domain's bound is least, in search of a counterexample;
            0 for none (see ``evaluate.corner_attack``).
        timeout: seconds that one instance may be charged.
        tighten: ascent on an α of its own for each bound of each unstable neuron, for
            instances that turn out to be worth it (see ``improve.optimise_at_root``).
        cutoff: better bounds of a domain's neurons; None: none.
        box_cutoff: better bounds of a domain over a part of its box; None: none.
        early: splits of early ReLUs in turns with the others; None: none.
        inputs: splits of inputs.
        max_domains: of one instance, after which it is given up; None for no limit.
        give_up: an instance is given up once its search is expected to take more than so many times
            its seconds (see ``limits.progress_estimate``); None: never.
        max_bytes: of all open domains together; the instance that holds most of them is given up.
        budget: for the intermediate tensors of one call.
        attack: the attack that the same file asks for.
    """

    batch: PositiveCount = 64
    root: OptimiseSettings = OptimiseSettings(iterations=100, lr_alpha=0.1)
    tighten: OptimiseSettings = OptimiseSettings(iterations=6, lr_alpha=0.4, decay=0.85)
    domain: OptimiseSettings = OptimiseSettings(iterations=10, lr_alpha=0.05, lr_beta=0.1)
    branching: BranchingSettings = BranchingSettings()
    descent: Count = 40
    timeout: Positive = 360.0
    cutoff: CutoffSettings | None = CutoffSettings()
    box_cutoff: BoxCutoffSettings | None = BoxCutoffSettings()
    early: EarlySplitSettings | None = EarlySplitSettings()
    inputs: InputSplitSettings = InputSplitSettings()
    max_domains: Count | None = None
    give_up: Positive | None = None
    max_bytes: PositiveCount = 1 << 31
    budget: MemoryBudget = MemoryBudget()
    attack: AttackChoice = AttackChoice()
