"""The seconds of a proof, by a clock that only the steps of a search move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.checker.proofs import CELLS, EPSILON, claim, network_file
from verify_checker import check, read_network
from verify_pipeline.bounds import Multipliers
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.search.loop import Step
from verify_pipeline.branching.search.relu_split import ReluSplits
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.proving import cell_tree
from verify_pipeline.proving.aligned import Aligned
from verify_pipeline.proving.cell_tree import ProvedCell, prove_by_cells
from verify_pipeline.proving.relu_tree import RecordingDomains, prove_by_splits
from verify_pipeline.proving.root import Root, Unproved
from verify_pipeline.proving.slopes import optimised_slopes, specification

STEP = 5.0


class Clock:
    """Stands still unless something takes a step."""

    def __init__(self) -> None:
        self.now, self.steps = 0.0, 0

    def __call__(self) -> float:
        return self.now

    def slow(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        """Let each call of a function take ``STEP`` seconds."""
        function: Callable[..., Any] = getattr(owner, name)

        def slowly(*given: Any, **named: Any) -> Any:
            self.now, self.steps = self.now + STEP, self.steps + 1
            return function(*given, **named)

        monkeypatch.setattr(owner, name, slowly)


def opened(epsilon: float) -> tuple[Aligned, Root, Multipliers]:
    """A root with open rows, and slopes of these."""
    network = read_network(network_file())
    root = Root.of(network, claim(epsilon))
    root.add_lemmas()
    aligned = Aligned.of(network_from_bytes(network_file()).graph, root)
    before = np.flatnonzero(root.open_rows)
    alpha, slopes = optimised_slopes(aligned, root, SearchSettings().root)
    root.close(intervals=False, alpha=alpha)
    still = torch.from_numpy(root.open_rows[before])
    return aligned, root, Multipliers({p: v[still][None] for p, v in slopes.items()}, {})


@pytest.mark.parametrize("batches", [1, 2])
def test_no_batch_begins_after_the_deadline(batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    clock.slow(monkeypatch, ReluSplits, "split")
    aligned, root, start = opened(EPSILON["relus"])
    seconds = STEP * batches - 1
    with pytest.raises(Unproved, match="timeout"):
        prove_by_splits(aligned, root, start, SearchSettings(), seconds, clock=clock)
    assert clock.steps == batches
    assert root.open_rows.any()
    assert not any(len(tree.kind) > 1 for tree in root.trees)


class Meter:
    """Says whether there is time, so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def has_time(self) -> bool:
        self.left -= 1
        return self.left >= 0


@pytest.mark.parametrize("times", [0, 2])
def test_linear_programs_of_a_batch_end_with_its_time(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaves that the checker does not accept are solved one by one, while there is time."""
    aligned, root, start = opened(EPSILON["relus"])
    rows = np.flatnonzero(root.open_rows)
    spec = specification(root, rows[:1])
    bounds, box = aligned.bounds(root), aligned.box(root)
    first = Multipliers({p: v[:, :1] for p, v in start.alpha.items()}, {})
    instance = SearchInstances(aligned.graph, box, spec, bounds)
    splits = ReluSplits(instance, SearchSettings(), first)
    kind = RecordingDomains(splits, aligned, root, rows[:1])
    domains = kind.roots().subproblems[torch.zeros(5, dtype=torch.int64)]
    solved: list[object] = []

    def multipliers(leaf: object) -> dict[int, torch.Tensor]:
        solved.append(leaf)
        return {}

    monkeypatch.setattr(splits, "leaf_multipliers", multipliers)
    accepted = iter([np.full(5, -np.inf), *[np.ones(1)] * 5])
    monkeypatch.setattr(kind, "_keep", lambda some: next(accepted))
    monkeypatch.setattr(splits, "split", lambda parents, meter: step)
    step = Step(domains, torch.full((5,), -torch.inf).double(), torch.ones(5, dtype=torch.bool))
    with pytest.raises(Unproved, match="timeout"):
        kind.split(domains, Meter(times))  # type: ignore[arg-type]
    assert len(solved) == times


def test_early_splits_end_with_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    aligned, root, _ = opened(CELLS)
    made = ProvedCell.of

    def slowly(*given: Any) -> ProvedCell:
        clock.now, clock.steps = clock.now + STEP, clock.steps + 1
        return made(*given)

    monkeypatch.setattr(ProvedCell, "of", slowly)
    with pytest.raises(Unproved, match="timeout"):
        prove_by_cells(aligned, root, SearchSettings(), 2 * STEP, clock=clock, enough=1000)
    assert clock.steps == 3  # the whole box, and the two parts of a cut
    assert root.open_rows.any()


def test_cells_are_proved_in_the_time_that_is_left() -> None:
    aligned, root, _ = opened(CELLS)
    prove_by_cells(aligned, root, SearchSettings(), 20.0, clock=Clock(), enough=2)
    assert not root.open_rows.any()
    check(root.proof(), root.network)
    assert cell_tree.ENOUGH > 2
