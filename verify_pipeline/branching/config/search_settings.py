"""What the search can be told, as value objects; ``schema`` reads them from α,β-CROWN's YAML."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from verify_pipeline.bounds import MemoryBudget, OptimiseSettings
from verify_pipeline.settings import STRICT, Count, Positive, PositiveCount


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BranchingSettings:
    """How a domain's next neuron is chosen.

    Attributes:
        method: ``babsr`` takes the neuron of the best score; ``kfsb`` bounds the children of the
            best few and takes the best of these; ``fsb`` does so with more of them.
        candidates: neurons of each of both scores whose children kFSB and FSB bound.
    """

    method: Literal["babsr", "fsb", "kfsb"] = "kfsb"
    candidates: PositiveCount = 3


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
        branching: which neuron is split.
        descent: gradient steps from where a domain's bound is least, in search of a counterexample;
            0 for none (see ``pursuit``).
        timeout: seconds that one instance may be charged.
        tighten: ascent on an α of its own for each bound of each unstable neuron, for
            instances that turn out to be worth it (see ``tightening``).
        max_domains: of one instance, after which it is given up; None for no limit.
        give_up: an instance is given up once its search is expected to take more than so many times
            its seconds (see ``prospects``); None: never.
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
    max_domains: Count | None = None
    give_up: Positive | None = None
    max_bytes: PositiveCount = 1 << 31
    budget: MemoryBudget = MemoryBudget()
    attack: AttackChoice = AttackChoice()
