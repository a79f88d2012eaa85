"""What figures draw, counted by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.figures.by_hand import RECORDS, F, U, V, old, record, run
from verify_pipeline.errors import DataError
from verify_pipeline.figures.series.accuracy import (
    AccuracyPoint,
    accuracy_panels,
    pareto_front,
)
from verify_pipeline.figures.series.cactus import cactus_curve
from verify_pipeline.figures.series.epsilon import by_network, epsilon_curve
from verify_pipeline.figures.series.flow import StageFlow, stage_flows
from verify_pipeline.figures.series.labels import run_labels
from verify_pipeline.figures.series.margins import common_bins, run_margins
from verify_pipeline.figures.series.training import read_metrics, training_curves
from verify_pipeline.problem import TIED, Reason, StageResult
from verify_pipeline.reporting.literature import Published
from verify_pipeline.reporting.results import results

COUNTS = [
    ("clean", 6, 0, 1, 5),
    ("ibp", 5, 2, 0, 3),
    ("attack", 3, 0, 1, 2),
    ("crown", 2, 1, 0, 1),
    ("branch-and-bound", 1, 0, 0, 1),
]


def counts(flows: tuple[StageFlow, ...]) -> list[tuple[str, int, int, int, int]]:
    return [(f.stage, f.entered, f.verified, f.falsified, f.left) for f in flows]


def test_each_stage_has_its_images_and_seconds() -> None:
    flows = stage_flows(run())
    assert counts(flows) == COUNTS
    assert [flow.seconds for flow in flows] == [1.75, 1.75, 6.0, 1.0, 7.0]


def test_an_old_ledger_has_the_counts_but_not_the_seconds() -> None:
    flows = stage_flows(old(run()))
    assert counts(flows) == COUNTS
    assert {flow.seconds for flow in flows} == {None}


def test_a_stage_that_runs_besides_comes_before_the_one_it_stands_beside() -> None:
    both = (*RECORDS[5].stages[:4], StageResult("input-split", 3.0))
    split = replace(RECORDS[5], index=6, status=V, stage="input-split", bound=1.0, stages=both)
    flows = stage_flows(run([*RECORDS, split]))
    assert [flow.stage for flow in flows][-2:] == ["input-split", "branch-and-bound"]
    assert (flows[-2].entered, flows[-2].verified, flows[-2].seconds) == (1, 1, 3.0)
    assert flows[-1].entered == 1


def test_stages_without_images_are_left_out() -> None:
    assert [flow.stage for flow in stage_flows(run(RECORDS[:3]))] == ["clean", "ibp"]
    assert stage_flows(run([])) == ()


def test_the_cactus_counts_decided_images_that_are_classified_rightly() -> None:
    curve = cactus_curve(run(asked=8), "a")
    assert curve.seconds == (0.5, 1.0, 2.5, 3.0)
    assert curve.images == 7  # five here and two without a verdict yet
    assert [curve.decided_within(t) for t in (0.4, 0.5, 2.6, 100.0)] == [0, 1, 3, 4]


def test_margins_are_told_apart_by_verdict() -> None:
    without = replace(RECORDS[5], index=9, bound=float("-inf"))
    margins = run_margins(run([*RECORDS, without]), "a")
    assert margins.verified == (0.25,) * 3
    assert margins.open == (-1.5,)
    assert margins.unbounded == 1
    assert margins.counterexamples == (-0.5,)  # not that of the image that is wrong as it is


def test_zero_is_an_edge_and_belongs_to_the_left() -> None:
    bins = common_bins([-1.5, -0.5, 0.0, 0.25, 3.0])
    assert 0.0 in bins.edges
    assert bins.width == pytest.approx(0.2)
    assert sum(bins.counts([-1.5, -0.5, 0.0, 0.25, 3.0])) == 5
    zero = bins.edges.index(0.0)
    assert bins.counts([0.0])[zero - 1] == 1
    assert bins.counts([1e-9])[zero] == 1


def test_extreme_margins_are_counted_beside_the_bins() -> None:
    values = [*(0.01 * n for n in range(1, 200)), -1e6, 1e9]
    bins = common_bins(values)
    assert bins.edges[0] > -10
    assert bins.edges[-1] < 10
    below, above = bins.outside(values)
    assert (below, above) == (1, 1)
    assert sum(bins.counts(values)) == len(values) - 2


@pytest.mark.parametrize("value", [0.0, 1e-12, -3.0, 1e12])
def test_a_single_margin_has_a_bin(value: float) -> None:
    bins = common_bins([value])
    assert sum(bins.counts([value])) == 1
    assert 0.0 in bins.edges


def test_a_verdict_at_one_epsilon_counts_at_the_others() -> None:
    """Images 0 to 3: wrong; verified at 0.2; broken at 0.1; open at 0.1. Image 4 at 0.1 only."""
    low = run([record(0, F, "clean"), record(2, F, "attack"), record(3, U, "ibp")], asked=5)
    high = run([record(1, V, "ibp")], epsilon=0.2, asked=4)
    ((*group,),) = by_network([low, high])
    curve = epsilon_curve(group, "a")
    assert curve.epsilons == (0.0, 0.1, 0.2)
    assert curve.verified == (0.75, 0.25, 0.25)  # at 0: all but the wrong one are right
    assert curve.at_most == (0.75, 0.5, 0.5)
    assert (curve.images, curve.left_out) == (4, 1)


def test_ties_and_claims_of_other_tools_are_not_certified() -> None:
    tied = replace(record(0, V, "crown"), detail=TIED)
    claimed = record(1, V, "abcrown")
    curve = epsilon_curve([run([tied, claimed])], "a")
    assert (curve.verified, curve.at_most) == ((1.0, 0.0), (1.0, 1.0))


@pytest.mark.parametrize(
    ("reason", "stage", "right"),
    [
        (Reason.NOT_DECIDED, "clean", 1.0),
        (Reason.NOT_FINITE, "clean", 0.0),
        (Reason.TIMEOUT, "clean", 0.0),
        (Reason.TIMEOUT, "crown", 1.0),
    ],
)
def test_an_undecided_image_counts_at_zero_if_the_clean_check_is_done(
    reason: Reason, stage: str, right: float
) -> None:
    curve = epsilon_curve([run([replace(record(0, U, stage), reason=reason)])], "a")
    assert (curve.verified, curve.at_most) == ((right, 0.0), (1.0, 1.0))


def test_an_image_without_a_verdict_is_not_known_to_be_right() -> None:
    curve = epsilon_curve([run([record(0, V, "ibp")], asked=2)], "a")
    assert (curve.verified, curve.at_most) == ((0.5, 0.5), (1.0, 1.0))


def test_other_networks_and_other_boxes_are_other_curves() -> None:
    one, two, other = run(), run(epsilon=0.2), run(seed=1)
    channels = replace(one.info.run, perturbation="linf 0.1,0.2")
    no_balls = replace(one, info=replace(one.info, run=channels, epsilon=None))
    assert by_network([one, other, no_balls, two]) == [[one, two], [other]]


def point(standard: float, verified: float) -> AccuracyPoint:
    return AccuracyPoint("", "m", standard, verified, verified, ((standard, verified),))


def test_the_front_has_what_nothing_beats() -> None:
    best, middle, beaten, same = point(90, 50), point(80, 60), point(80, 55), point(70, 60)
    assert pareto_front([best, beaten, same, middle]) == (middle, best)
    assert pareto_front([best, point(90, 50)]) == (best, best)
    assert pareto_front([]) == ()


def test_seeds_make_one_point_with_deviations() -> None:
    """5 of 6 right and 3 verified with one seed; all 6 right and 3 verified with the other."""
    fixed = [*RECORDS[1:], record(6, U, "branch-and-bound")]
    other = [replace(each, index=place) for place, each in enumerate(fixed)]
    rows = results([run(), run(other, seed=1), run(alpha=0.8)])
    (panel,) = accuracy_panels(rows)
    assert panel.title == "digits test, ε = 0.1"
    two, one = panel.points
    assert (two.method, two.label, one.label) == ("CC-IBP", "α = 0.2", "α = 0.8")
    assert two.standard == pytest.approx(100 * 11 / 12)
    assert two.verified == pytest.approx(50)
    assert two.at_most == pytest.approx(100 * 9 / 12)
    assert two.runs == (pytest.approx((500 / 6, 50)), pytest.approx((100, 50)))
    assert two.deviations == pytest.approx((100 / 6 / 2**0.5, 0))
    assert one.deviations is None


def test_published_results_stand_where_data_and_epsilon_are_theirs() -> None:
    row = Published("SABR", "digits", 0.1, "cnn7", 98.0, 80.0, "mao", checked=True)
    rows = results([run(), run(epsilon=0.2)])
    first, second = accuracy_panels(rows, [row])
    assert (first.published, second.published) == ((row,), ())


def test_labels_tell_what_differs() -> None:
    assert run_labels([run()]) == ["CC-IBP, α = 0.2"]
    assert run_labels([run(), run(seed=1), run(loss="ibp")]) == [
        "CC-IBP, α = 0.2, seed 0",
        "CC-IBP, α = 0.2, seed 1",
        "IBP, seed 0",
    ]
    both = [run(), run(epsilon=2 / 255)]
    assert run_labels(both) == ["CC-IBP, α = 0.2, ε = 0.1", "CC-IBP, α = 0.2, ε = 2/255"]
    assert run_labels(both[:1], without=("epsilon",)) == ["CC-IBP, α = 0.2"]
    assert run_labels([]) == []


def test_runs_that_look_alike_are_told_apart_by_their_digests() -> None:
    first, second = run_labels([run(), run(network="b" * 64)])
    assert first != second
    assert "network bbbbbb" in second


ROWS = [
    {"epoch": "1", "train_clean": "0.5", "train_loss": "2", "epsilon": "0.0", "alpha": "0.2"},
    {
        "epoch": "2",
        "train_clean": "0.75",
        "train_verified": "0.25",
        "train_loss": "inf",
        "epsilon": "0.1",
        "alpha": "0.2",
    },
]


def test_curves_have_the_epochs_that_measured_them() -> None:
    curves = training_curves(ROWS, "a")
    assert list(curves.panels) == ["accuracy [%]", "loss", "ε"]  # α does not change
    clean, ibp = curves.panels["accuracy [%]"]
    assert (clean.epochs, clean.values) == ((1, 2), (50.0, 75.0))
    assert (ibp.name, ibp.epochs, ibp.values) == ("IBP", (2,), (25.0,))
    (loss,) = curves.panels["loss"]
    assert (loss.epochs, loss.values) == ((1,), (2.0,))
    moving = training_curves([ROWS[0], {**ROWS[1], "alpha": "0.4"}], "a")
    assert "α" in moving.panels


def test_metrics_that_are_damaged_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a training's metrics\.csv; got none"):
        read_metrics(tmp_path)
    file = tmp_path / "metrics.csv"
    for text, message in (
        ("", "got none"),
        ("epoch,train_loss\n", "got none"),
        ("a,b\n1,2\n", "got no epochs"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            read_metrics(tmp_path)
    file.write_text("epoch,train_loss\n1,much\n")
    with pytest.raises(DataError, match="train_loss; expected a number; got 'much'"):
        training_curves(read_metrics(tmp_path), "a")
    with pytest.raises(DataError, match="at least one epoch"):
        training_curves([], "a")
