"""When trainings are ended early, by hand."""

import pytest

from verify_pipeline.sweeps.pruning import PruningRule, replay, rung_points, watch_every

RULE = PruningRule(margin=0.1, rivals=2)


def test_far_behind_is_behind_enough_rivals_in_both() -> None:
    ahead, level = (0.7, 0.5), (0.7, 0.41)
    assert RULE.far_behind((0.6, 0.4), [ahead, (0.9, 0.9), level])
    assert not RULE.far_behind((0.6, 0.4), [ahead, level])  # one is ahead, one in accuracy only
    assert not RULE.far_behind((0.6, 0.0), [(0.69, 0.9)] * 5)
    assert not RULE.far_behind((0.0, 0.0), [])


def test_no_bounds_alone_end_nothing() -> None:
    assert not RULE.far_behind((0.95, 0.0), [(0.9, 0.8)] * 9)


@pytest.mark.parametrize(("epochs", "every"), [(1, 1), (2, 1), (3, 1), (12, 4), (40, 13)])
def test_rungs_are_thirds_of_the_epochs(epochs: int, every: int) -> None:
    assert watch_every(epochs) == every
    rows = [
        {"epoch": epoch, "validation_standard": 0.5, "validation_ibp": epoch / 100}
        for epoch in range(every, epochs + 1, every)
    ]
    rungs = rung_points(rows, epochs)
    assert set(rungs) <= {1, 2}
    assert rungs[1] == (0.5, every / 100)


def test_epochs_that_were_not_looked_at_are_no_rungs() -> None:
    assert rung_points([{"epoch": 4}], 12) == {}


def test_a_replay_ends_what_the_rule_ends_and_counts_what_it_saves() -> None:
    trainings = [
        {1: (0.9, 0.5), 2: (0.9, 0.6)},
        {1: (0.8, 0.4), 2: (0.9, 0.6)},
        {1: (0.5, 0.1), 2: (0.9, 0.9)},  # ended on the first rung
        {1: (0.9, 0.0), 2: (0.7, 0.1)},  # ended on the second
        {1: (0.75, 0.35), 2: (0.9, 0.6)},
    ]
    found = replay(trainings, RULE)
    assert found.ended == {2: 1, 3: 2}
    assert found.saved == pytest.approx((2 / 3 + 1 / 3) / 5)
    assert replay([], RULE).saved == 0.0


def test_those_that_were_ended_are_no_rivals() -> None:
    strong, weak, weaker = {1: (0.9, 0.9)}, {1: (0.5, 0.5)}, {1: (0.3, 0.3)}
    assert replay([strong, strong, weak, weak, weaker], RULE).ended == {2: 1, 3: 1, 4: 1}
    assert replay([strong, weak, weaker], RULE).ended == {2: 1}
    assert replay([strong, weak, weaker], PruningRule(margin=0.1, rivals=3)).ended == {}
