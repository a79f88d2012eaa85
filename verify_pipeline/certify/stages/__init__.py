"""The stages, each in its own file; settings choose which of them run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from verify_pipeline.certify.contract import Clock, Stage, Subject
from verify_pipeline.certify.memory import usual_batch
from verify_pipeline.certify.settings import Plan, StageName
from verify_pipeline.certify.stages.alpha_crown import AlphaCrownStage
from verify_pipeline.certify.stages.attack import AttackStage
from verify_pipeline.certify.stages.branch_and_bound import BranchAndBoundStage
from verify_pipeline.certify.stages.clean import CleanCheck
from verify_pipeline.certify.stages.crown import CrownStage
from verify_pipeline.certify.stages.ibp import IntervalStage
from verify_pipeline.certify.stages.input_split import InputSplitStage
from verify_pipeline.errors import ConfigError

BEFORE_HALVING = ("clean", "ibp", "attack", "crown")
"""Stages that run before boxes with few free inputs are split."""


def build_stages(
    plan: Plan,
    subject: Subject,
    rows: int,
    clock: Clock,
    abcrown: Callable[[], Stage] | None = None,
) -> tuple[Stage, ...]:
    """The stages of a plan, in order.

    Args:
        plan: the choices made.
        subject: the network.
        rows: S, of each instance's specification.
        clock: seconds from some origin.
        abcrown: makes the stage that asks α,β-CROWN, if the plan has it.

    Raises:
        ConfigError: the plan has that stage, and nothing makes it.
    """
    batch = plan.batch or usual_batch(subject.device)
    makers: dict[StageName, Callable[[], Stage]] = {
        "clean": lambda: CleanCheck(subject, batch),
        "ibp": lambda: IntervalStage(subject, batch),
        "attack": lambda: AttackStage(subject, batch, plan.attack),
        "crown": lambda: CrownStage(subject, batch, rows, plan.memory),
        "alpha-crown": lambda: AlphaCrownStage(
            subject, batch, rows, plan.memory, plan.search.root, plan.alpha_crown
        ),
        "branch-and-bound": lambda: BranchAndBoundStage(
            subject, rows, plan.memory, plan.search, clock
        ),
    }
    if abcrown is not None:
        makers["abcrown"] = abcrown
    missing = [name for name in plan.stages if name not in makers]
    if missing:
        raise ConfigError(
            f"stage {missing[0]}",
            expected="a stage that runs here",
            got="one that needs another tool",
            remedy="Certify a data set with it: verify-pipeline certify … --engine abcrown.",
        )
    return tuple(makers[name]() for name in plan.stages)


def for_few_inputs(
    stages: Sequence[Stage], plan: Plan, subject: Subject, rows: int, clock: Clock
) -> tuple[Stage, ...]:
    """The stages for boxes with few free inputs (``plan.input_split.few_inputs`` at most).

    If the plan splits ReLUs, these boxes are split at their inputs first. A box on which CROWN is
    too slow for that, or which the splits leave open, goes on to the next stage as usual.

    Args:
        stages: in order.
        plan: what they were built from.
        subject: the network.
        rows: S, of each instance's specification.
        clock: seconds from some origin.
    """
    names = [stage.name for stage in stages]
    if "branch-and-bound" not in names:
        return tuple(stages)
    before = [stage for stage in stages if stage.name in BEFORE_HALVING]
    behind = [stage for stage in stages if stage.name not in BEFORE_HALVING]
    splitting = InputSplitStage(subject, rows, plan.memory, plan.search, plan.input_split, clock)
    return (*before, splitting, *behind)


__all__ = ["build_stages", "for_few_inputs"]
