"""Axes, ticks, texts and notes that could mislead a reader of a figure."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import combinations
from math import hypot

import pytest

from tests.figures.by_hand import RECORDS, F, U, V, record, run
from verify_pipeline.errors import DataError
from verify_pipeline.figures import drawings, plots
from verify_pipeline.figures.descriptions import describe_margins
from verify_pipeline.figures.draw.accuracy import draw_accuracy
from verify_pipeline.figures.draw.cactus import draw_cactus
from verify_pipeline.figures.draw.margins import draw_margins
from verify_pipeline.figures.draw.stages import draw_stages
from verify_pipeline.figures.draw.training import draw_training
from verify_pipeline.figures.series.accuracy import AccuracyPanel, AccuracyPoint
from verify_pipeline.figures.series.cactus import CactusCurve
from verify_pipeline.figures.series.flow import StageFlow
from verify_pipeline.figures.series.labels import run_labels
from verify_pipeline.figures.series.margins import RunMargins
from verify_pipeline.figures.series.training import training_curves
from verify_pipeline.figures.style import MISSING, plain, styled, text_width, wrapped
from verify_pipeline.reporting.literature import Published

pytest.importorskip("matplotlib")


def point(standard: float, verified: float, label: str = "", method: str = "IBP") -> AccuracyPoint:
    return AccuracyPoint(label, method, standard, verified, verified, ((standard, verified),))


def star(standard: float, verified: float) -> Published:
    return Published("SABR", "digits", 0.1, "cnn7", standard, verified, "mao", checked=True)


@pytest.mark.parametrize(
    "places",
    [
        ((99.34, 98.22), (99.47, 97.97), (99.44, 98.14)),
        ((99.45, 97.82), (99.01, 98.07), (99.47, 97.99)),
    ],
)
def test_each_number_stands_nearest_to_its_own_star(
    places: tuple[tuple[float, float], ...],
) -> None:
    stars = tuple(star(*place) for place in places)
    others = (point(96.6, 94.6), point(98.6, 96.4))
    with styled():
        figure = draw_accuracy([AccuracyPanel("a", others, stars)])
        figure.canvas.draw()
    (axes,) = figure.axes
    numbers = [text for text in axes.texts if text.get_text().isdigit()]
    assert [text.get_text() for text in numbers] == ["1", "2", "3"]
    drawn = axes.transData.transform(places)
    boxes = [text.get_window_extent() for text in numbers]
    for own, box in enumerate(boxes):
        across = [max(box.x0 - x, 0, x - box.x1) for x in drawn[:, 0]]
        upwards = [max(box.y0 - y, 0, y - box.y1) for y in drawn[:, 1]]
        distances = [hypot(*both) for both in zip(across, upwards, strict=True)]
        assert min(distances) > 0
        assert all(d > 1.5 * distances[own] for n, d in enumerate(distances) if n != own)
        assert numbers[own].arrow_patch is not None
    points = figure.dpi / 72
    for first, second in combinations(boxes, 2):
        assert not first.padded(3 * points).overlaps(second)


def test_a_point_without_a_parameter_is_named_by_its_method() -> None:
    panel = AccuracyPanel("a", (point(90, 70), point(95, 80, "α = 0.5", "CC-IBP")))
    with styled():
        figure = draw_accuracy([panel])
    assert {text.get_text() for text in figure.axes[0].texts} == {"IBP", "α=0.5"}


def test_no_axis_of_accuracies_goes_beyond_a_hundred() -> None:
    with styled():
        figure = draw_accuracy([AccuracyPanel("a", (point(100, 100), point(99, 0.1, "α = 1")))])
    (axes,) = figure.axes
    assert axes.get_xlim()[1] == axes.get_ylim()[1] == 100
    assert axes.get_ylim()[0] == 0
    marks = [line for line in axes.lines if 100 in line.get_xdata() and line.get_marker() != "None"]
    assert marks
    assert not any(line.get_clip_on() for line in marks)  # or half of the point would be missing
    curve = plots.plot_epsilon([run(), run(epsilon=0.2)])
    assert curve.axes[0].get_ylim() == (0, 100)


def test_ticks_of_counts_are_whole() -> None:
    with styled():
        cactus = draw_cactus([CactusCurve("a", (0.5,), 1)]).axes[0]
        margins = draw_margins([RunMargins("a", (0.5,), (), ())]).axes[0]
        stages = draw_stages([("a", [StageFlow("ibp", 1, 1, 0, 0.1)])]).axes[0]
    for ticks in (cactus.get_yticks(), margins.get_yticks(), stages.get_xticks()):
        assert {0, 1} <= set(ticks)
        assert all(tick == round(tick) for tick in ticks)


@pytest.mark.parametrize("name", ["猫と犬", "αβγ ἄλφα", "cat"])
def test_names_without_glyphs_warn_nobody_and_are_told(name: str) -> None:
    """Greek is in the font; Chinese and Japanese are not."""
    summary = run(RECORDS)
    named = replace(summary.info, notes={}, network_name=name)
    results = [replace(summary, info=named)]
    missing = name == "猫と犬"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [drawings.KINDS[kind](results, "column") for kind in ("accuracy", "cactus")]
        for each in drawn:
            each.figure.canvas.draw()
    for each in drawn:
        assert any(name in note for note in each.notes) == missing
    assert plain(name) == (MISSING * 3 if missing else name)
    assert wrapped(f"{name} {name}", 10 * text_width("m")) == plain(f"{name} {name}")


def test_a_curve_is_of_the_images_that_were_asked_for_at_every_epsilon() -> None:
    """Two of four images were asked for at both: of these the table of the larger ε counts one."""
    low = run([record(0, V, "ibp"), record(1, U, "ibp"), record(2, F, "attack")], asked=3)
    high = run([record(0, V, "ibp"), record(1, F, "attack")], epsilon=0.2, asked=2)
    drawing = drawings.epsilon([low, high])
    (line,) = drawing.figure.axes[0].lines
    assert [*line.get_ydata()] == [100, 50, 50]  # at 0, both are right
    assert drawing.figure.axes[0].get_ylabel() == "certified [% of 2 images]"
    (note,) = drawing.notes
    assert note == "Drawn of the 2 of 3 images asked for at every ε: CC-IBP, α = 0.2."
    assert drawings.epsilon([low, replace(low, info=run(epsilon=0.2).info)]).notes == ()


def test_a_curve_without_an_image_at_every_epsilon_is_not_drawn() -> None:
    low, high = run([record(0, V, "ibp")]), run([record(1, V, "ibp")], epsilon=0.2)
    apart = [replace(each, asked=None) for each in (low, high)]
    with pytest.raises(DataError, match="images that were asked for at every ε; got none"):
        drawings.epsilon(apart)
    both = [run(loss="ibp"), run(loss="ibp", epsilon=0.2)]
    notes = drawings.epsilon([*apart, *both]).notes
    assert notes == ("Not drawn, as no image was asked for at every ε: CC-IBP, α = 0.2.",)


def test_descriptions_have_a_real_minus_sign() -> None:
    words = describe_margins([RunMargins("a", (1e-5,), (-0.5,), (-2.0,))])
    assert words == ("a: 1 verified, median 1e−05; 1 open, median −0.5; 1 falsified, median −2.")


def test_small_parameters_and_losses_have_a_real_minus_sign() -> None:
    assert run_labels([run(alpha=1e-5)]) == ["CC-IBP, α = 1e−05"]
    rows = [{"epoch": n, "train_loss": 10.0**-n} for n in (1, 4, 7)]
    with styled():
        figure = draw_training([training_curves(rows, "a")])
        figure.canvas.draw()
    (axes,) = figure.axes
    ticks = [text.get_text() for text in axes.get_yticklabels()]
    assert "1e−05" in ticks
    assert not any("-" in tick for tick in ticks)


def test_an_unfinished_seed_is_left_out_of_its_point() -> None:
    drawing = drawings.accuracy([run(), run(RECORDS[1:3], seed=1, asked=6)], literature=())
    assert drawing.notes == ("Not drawn, as it is not finished: CC-IBP, α = 0.2, seed 1.",)
    assert "standard 83.33 %, verified 50.00 %" in drawing.description
    for asked in (6, 0):
        begun = drawings.accuracy([run(), run([], seed=1, asked=asked)], literature=())
        assert begun.notes == drawing.notes
    with pytest.raises(DataError, match="a finished run"):
        drawings.accuracy([run(asked=9)])
