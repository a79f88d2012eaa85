"""The attack of certification: it stays in the box, finds what is there and keeps the best."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.networks import mlp
from tests.networks_by_hand import chain, linear
from verify_pipeline.attacks import falsify as attack_module
from verify_pipeline.attacks.falsify import Attacked, FalsifySettings, falsify, least_margins
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Relu
from verify_pipeline.problem import Box, Specification


def attack(
    graph: Graph, images: torch.Tensor, labels: torch.Tensor, epsilon: float, **options: Any
) -> tuple[Attacked, Box, Specification]:
    box = Box.around(images, epsilon)
    spec = Specification.margins(labels, graph.outputs)
    found = falsify(graph, box, spec, images, FalsifySettings(**options), range(len(images)))
    return found, box, spec


def test_the_least_margin_of_a_linear_network_is_its_corner() -> None:
    # f = (x0 - x1, 0): the margin of class 0 is 0.2 at (0.6, 0.4), and 0.2 - 2 ε at the corner.
    graph = chain((2,), linear([[1.0, -1.0], [0.0, 0.0]]), dtype=torch.float32)
    images = torch.tensor([[0.6, 0.4]])
    found, _, _ = attack(graph, images, torch.tensor([0]), 0.09)
    assert found.margins.item() == pytest.approx(0.02, abs=1e-6)
    torch.testing.assert_close(found.points, torch.tensor([[0.51, 0.49]]))
    broken, _, _ = attack(graph, images, torch.tensor([0]), 0.15)
    assert broken.margins.item() < 0


def test_every_targeted_row_is_descended_on() -> None:
    # Row 1 is closest at the start but constant; only row 2 can be broken.
    graph = chain((2,), linear([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]), dtype=torch.float32)
    images, labels = torch.tensor([[0.5, 0.5]]), torch.tensor([0])
    box = Box.around(images, 0.5)
    spec = Specification(Specification.margins(labels, 3).rows, torch.tensor([[0.1, 1.2]]))
    one = falsify(graph, box, spec, images, FalsifySettings(targets=1, restarts=1), [0])
    both = falsify(graph, box, spec, images, FalsifySettings(targets=2, restarts=1), [0])
    assert one.margins.item() > 0
    assert both.margins.item() <= 0


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.0, 0.4), st.floats(0.0, 0.9))
def test_points_stay_in_their_boxes_and_margins_are_true(
    seed: int, epsilon: float, momentum: float
) -> None:
    graph = mlp(seed, 4, (12,))
    images = torch.rand(6, 4, generator=torch.Generator().manual_seed(seed))
    labels = graph(images).argmax(1)
    found, box, spec = attack(
        graph, images, labels, epsilon, steps=5, momentum=momentum, restarts=3
    )
    assert bool(box.contains(found.points).all())
    actual = spec.values(graph(found.points)).amin(1)
    assert bool((actual <= found.margins + 1e-5).all())
    assert bool((found.margins <= spec.values(graph(images)).amin(1) + 1e-6).all())


def test_an_attack_finds_nearly_all_that_dense_sampling_finds() -> None:
    graph = mlp(7, 2, (12,))
    images = torch.rand(40, 2, generator=torch.Generator().manual_seed(1))
    labels = graph(images).argmax(1)
    found, box, spec = attack(graph, images, labels, 0.15)
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 41)] * 2)
    samples = box.lower.unsqueeze(1) + grid * (box.upper - box.lower).unsqueeze(1)
    outputs = graph(samples.flatten(0, 1)).reshape(40, -1, graph.outputs)
    sampled = torch.stack(
        [spec.values(outputs[:, g]).amin(1) for g in range(outputs.shape[1])]
    ).amin(0)
    breakable = sampled < -1e-3
    assert 0 < int(breakable.sum()) < 40
    assert bool((found.margins[breakable] <= 0).all())
    assert bool((found.margins[sampled > 0.05] > 0).all())


def test_what_is_found_does_not_depend_on_the_rest_of_the_batch() -> None:
    graph = mlp(3, 4, (12,)).to(torch.float64)
    images = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    labels = graph(images).argmax(1)
    box = Box.around(images, 0.2)
    spec = Specification.margins(labels, 3, torch.float64)
    options = FalsifySettings(restarts=3, steps=8)
    together = falsify(graph, box, spec, images, options, [11, 12, 13, 14, 15])
    alone = falsify(graph, box[3:4], spec[3:4], images[3:4], options, [14])
    torch.testing.assert_close(together.points[3:4], alone.points)
    again = falsify(graph, box, spec, images, options, [11, 12, 13, 14, 15])
    assert torch.equal(together.points, again.points)


def test_a_network_that_answers_nan_is_never_falsified() -> None:
    graph = chain((2,), linear([[torch.nan, 0.0], [0.0, 0.0]]), dtype=torch.float32)
    found, _, spec = attack(graph, torch.tensor([[0.5, 0.5]]), torch.tensor([0]), 0.1)
    assert found.margins.item() == torch.inf
    assert least_margins(graph, spec, found.points).item() == torch.inf


def test_no_instance_is_a_batch_too() -> None:
    graph = mlp(0, 4, (12,))
    found, _, _ = attack(graph, torch.empty(0, 4), torch.empty(0, dtype=torch.int64), 0.1)
    assert found.points.shape == (0, 4)


def test_an_attack_without_time_keeps_what_it_has() -> None:
    graph = mlp(3, 4, (12,))
    images = torch.rand(5, 4, generator=torch.Generator().manual_seed(2))
    box = Box.around(images, 0.2)
    spec = Specification.margins(graph(images).argmax(1), 3)
    answers = iter([True] * 3 + [False] * 9)
    found = falsify(graph, box, spec, images, FalsifySettings(), range(5), lambda: next(answers))
    at_images = spec.values(graph(images)).amin(1)
    assert bool((found.margins <= at_images).all())
    assert bool((found.margins < at_images).any())
    none = falsify(graph, box, spec, images, FalsifySettings(), range(5), lambda: False)
    assert torch.equal(none.points, images)


def lengths(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, box: Box, spec: Specification, **options: Any
) -> tuple[list[int], Attacked]:
    """How many points each gradient of one round was computed of, and what was found."""
    honest, counts = attack_module._descent, []

    def counted(graph: Graph, each: Any) -> tuple[torch.Tensor, torch.Tensor]:
        counts.append(len(each))
        return honest(graph, each)

    monkeypatch.setattr(attack_module, "_descent", counted)
    made = FalsifySettings(restarts=1, **options)
    found = falsify(graph, box, spec, box.center, made, range(len(box)))
    return counts, found


def test_a_point_is_left_once_it_falls_too_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 0.1 on rows of slope -1 that end at 2: at its 4th step it has 0.4 of 2 - x."""
    graph = chain((1,), linear([[-1.0]]), dtype=torch.float32)
    offsets = torch.tensor([[0.95], [1.15]])  # reached after 9.5 and 11.5 of 10 steps
    box = Box(torch.full((2, 1), -2.0), torch.full((2, 1), 2.0))
    spec = Specification(torch.ones(2, 1, 1), offsets)
    steps = {"steps": 10, "step_size": 0.05, "last_step": 1.0, "momentum": 0.0}
    counts, found = lengths(monkeypatch, graph, box, spec, patience=4, **steps)
    # the second is left at its 5th gradient: 0.75 to go, 0.6 in the 6 steps that are left
    assert counts == [2] * 5 + [1] * 6
    assert found.margins.tolist() == pytest.approx([-0.05, 0.75], abs=1e-6)


def test_a_point_that_arrives_exactly_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = chain((1,), linear([[-1.0]]), dtype=torch.float32)
    box = Box(torch.full((1, 1), -2.0), torch.full((1, 1), 2.0))
    spec = Specification(torch.ones(1, 1, 1), torch.tensor([[1.0]]))
    steps = {"steps": 8, "step_size": 0.0625, "last_step": 1.0, "momentum": 0.0}
    counts, found = lengths(monkeypatch, graph, box, spec, patience=4, **steps)
    assert counts == [1] * 9  # half of the way at the fourth of eight steps of 0.125
    assert found.margins.tolist() == [0.0]


@pytest.mark.parametrize("base", [0.5, 0.05])
def test_progress_is_that_of_the_least_margin(monkeypatch: pytest.MonkeyPatch, base: float) -> None:
    """Steps of 0.4 on ``base + |x - 0.5|``, from 0 to 0.4 and 0.8, and back and forth.

    At the second step, the least margin has fallen by 0.4; at the fourth, by nothing more.
    """
    layers = linear([[1], [-1]], [-0.5, 0.5]), Relu(), linear([[1, 1]], [base])
    graph = chain((1,), *layers, dtype=torch.float32)
    box = Box(torch.full((1, 1), -2.0), torch.full((1, 1), 2.0))
    spec = Specification(torch.ones(1, 1, 1), torch.zeros(1, 1))
    steps = {"steps": 6, "step_size": 0.2, "last_step": 1.0, "momentum": 0.0}
    counts, found = lengths(monkeypatch, graph, box, spec, patience=2, **steps)
    assert counts == [1] * 5
    assert found.margins.tolist() == pytest.approx([base + 0.1], abs=1e-6)


@pytest.mark.parametrize(("patience", "gradients"), [(3, 4), (5, 6), (9, 10), (10, 11), (99, 11)])
def test_a_margin_that_does_not_fall_is_left_after_patience(
    monkeypatch: pytest.MonkeyPatch, patience: int, gradients: int
) -> None:
    graph = chain((1,), linear([[0.0]]), dtype=torch.float32)
    box = Box(torch.zeros(1, 1), torch.ones(1, 1))
    spec = Specification(torch.ones(1, 1, 1), torch.tensor([[1.0]]))
    counts, found = lengths(monkeypatch, graph, box, spec, patience=patience, steps=10)
    assert counts == [1] * gradients
    assert found.margins.tolist() == [1.0]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 10), st.floats(0.01, 1.0))
def test_no_point_is_left_that_would_arrive_on_a_straight_way(
    seed: int, patience: int, last: float
) -> None:
    """Steps do not grow, so the rate so far is at least that of the steps that are left."""
    torch.manual_seed(seed)
    graph = chain((3,), linear(torch.randn(4, 3).tolist()), dtype=torch.float32)
    images = torch.rand(20, 3)
    options = {"steps": 12, "step_size": 0.2, "last_step": last}
    quick, _, _ = attack(graph, images, torch.zeros(20).long(), 0.3, patience=patience, **options)
    whole, _, _ = attack(graph, images, torch.zeros(20).long(), 0.3, patience=12, **options)
    assert torch.equal(quick.margins <= 0, whole.margins <= 0)


def test_steps_shrink_from_the_first_to_the_last() -> None:
    options = FalsifySettings(steps=3, step_size=1.0, last_step=0.01)
    assert [options.step(n) for n in range(3)] == pytest.approx([1.0, 0.1, 0.01])
    assert FalsifySettings(steps=1).step(0) == 0.5


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"patience": 0}, {"restarts": True}, {"momentum": 1.5}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FalsifySettings(**wrong)  # type: ignore[arg-type]
