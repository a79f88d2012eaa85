"""Errors by CROWN bounds and by parts of boxes: less than by intervals, and still valid."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from tests.bounds.test_forward_error import NETWORKS, boxes_of, narrow, of_attention, points_of
from tests.computed_graph import ways
from tests.exact_graph import exact_rows, exact_values, fractions
from verify_pipeline.bounds.forward_error import row_errors, sharper_row_errors
from verify_pipeline.bounds.forward_error.sharper import PARTS, _halves
from verify_pipeline.certify.evaluation_errors import EvaluationErrors, Hardening
from verify_pipeline.network.arithmetic import FLOAT32
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.written import Written
from verify_pipeline.problem import Box, Decision, Reason, Specification, Status

MAKERS = {**NETWORKS, "attention": of_attention}


def margins_of(graph: Graph) -> Specification:
    return Specification.margins(torch.tensor([0]), graph.outputs, torch.float64)


def ties_of(graph: Graph, box: Box) -> Specification:
    """Margins that are 0 in the middle of the box, where no error is small."""
    spec = margins_of(graph)
    return Specification(spec.rows, -spec.values(graph(box.center)))


def sharper(graph: Graph, box: Box, spec: Specification, enough: float = 0.0) -> Tensor:
    return sharper_row_errors(
        graph, box, spec, FLOAT32, torch.full_like(spec.offsets, enough), lambda: True
    )


@pytest.mark.parametrize("name", MAKERS)
def test_they_hold_for_every_evaluation(name: str) -> None:
    graph = narrow(MAKERS[name](3), FLOAT32)
    box = boxes_of(graph, 0.1, 3, FLOAT32)
    rows = torch.ones(1, 1, graph.outputs).double()
    spec = Specification(rows, torch.zeros(1, 1).double())
    plain = row_errors(graph, box, spec, FLOAT32)
    errors = sharper(graph, box, spec)
    assert bool((errors <= plain).all())
    for point in points_of(box, FLOAT32, 3):
        (exact,) = exact_rows(rows[0], spec.offsets[0], exact_values(graph, point)[-1])
        for way in ways(FLOAT32, 3):
            output = fractions(way.values(graph, point)[-1])
            (found,) = exact_rows(rows[0], spec.offsets[0], output)
            assert abs(found - exact) <= Fraction(float(errors.detach()))


def test_a_deep_network_gains_a_lot() -> None:
    graph = narrow(NETWORKS["mlp"](0), FLOAT32)
    box, spec = boxes_of(graph, 1.0, 0, FLOAT32), margins_of(graph)
    plain = row_errors(graph, box, spec, FLOAT32)
    errors = sharper(graph, box, spec)
    assert float(errors.max()) < 0.8 * float(plain.max())
    # of what is small enough, nothing more is asked
    assert torch.equal(sharper(graph, box, spec, enough=1.0) <= 1.0, errors <= 1.0)


def test_an_error_is_the_greatest_of_the_parts() -> None:
    """Errors over the whole box exceed those over any point of it."""
    graph = narrow(NETWORKS["mlp"](1), FLOAT32)
    box, spec = boxes_of(graph, 0.5, 1, FLOAT32), margins_of(graph)
    errors = sharper(graph, box, spec)
    for point in points_of(box, FLOAT32, 1):
        at = row_errors(graph, Box(point[None], point[None]), spec, FLOAT32)
        assert bool((at <= errors * (1 + 1e-6)).all())


def test_halves_cover_the_box() -> None:
    lower = torch.tensor([[0.0, -1.0], [2.0, 0.0]]).double()
    upper = torch.tensor([[1.0, 3.0], [4.0, 1.0]]).double()
    halves = _halves(Box(lower, upper))
    assert halves.lower.tolist() == [[0, -1], [2, 0], [0, 1], [3, 0]]
    assert halves.upper.tolist() == [[1, 1], [3, 1], [1, 3], [4, 1]]
    assert PARTS > 1


def test_nothing_is_bounded_better_without_time() -> None:
    graph = narrow(NETWORKS["mlp"](0), FLOAT32)
    box = boxes_of(graph, 1.0, 0, FLOAT32)
    spec = ties_of(graph, box)
    errors = EvaluationErrors(FLOAT32, graph)
    plain = errors.of_rows(box, spec)
    assert torch.equal(errors.sharpened(box, spec, plain, lambda: False), plain)
    assert bool((errors.sharpened(box, spec, plain, lambda: True) < plain).all())


def hardening(graph: Graph) -> Hardening:
    written = Written(graph, frozenset(["float32"]))
    return Hardening(EvaluationErrors.of(written, FLOAT32, None))


def test_better_errors_are_only_bounded_where_they_matter() -> None:
    graph = narrow(NETWORKS["mlp"](0), FLOAT32)
    box = boxes_of(graph, 1.0, 0, FLOAT32)
    spec = ties_of(graph, box)
    harden = hardening(graph)
    first = harden([7], box, spec)
    assert torch.equal(harden([7], box, spec).offsets, first.offsets)
    undecided = Decision(0, Status.UNKNOWN, bound=-1.0)
    assert harden.judged(7, undecided) is undecided
    rounded = Decision(0, Status.UNKNOWN, reason=Reason.ROUNDING, final=True)
    judged = harden.judged(7, rounded)  # a better error may do
    assert (judged.status, judged.reason, judged.final) == (Status.UNKNOWN, None, False)
    assert torch.equal(harden([7], box, spec, lambda: False).offsets, first.offsets)
    second = harden([7], box, spec)
    assert bool((second.offsets > first.offsets).all())
    assert bool((second.offsets < spec.offsets).all())
    assert torch.equal(harden([7], box, spec).offsets, second.offsets)
    assert harden.judged(7, rounded) is rounded
    assert harden.covers(7)
    assert not harden.covers(8)


def test_a_search_gets_better_errors_at_once() -> None:
    graph = narrow(NETWORKS["mlp"](0), FLOAT32)
    box = boxes_of(graph, 1.0, 0, FLOAT32)
    spec = ties_of(graph, box)
    cheap, sharp = hardening(graph), hardening(graph)
    sharp.sharpen([7])
    assert bool((sharp([7], box, spec).offsets > cheap([7], box, spec).offsets).all())


def test_verified_is_kept_only_where_the_errors_are_known() -> None:
    graph = narrow(of_attention(1), FLOAT32)
    box, spec = boxes_of(graph, 0.0, 1, FLOAT32), margins_of(graph)

    class Unknown(EvaluationErrors):
        """Scores that intervals let grow beyond what a softmax is analysed for."""

        def of_rows(self, box: Box, spec: Specification) -> Tensor:
            return torch.full_like(spec.offsets, torch.inf)

    harden = Hardening(Unknown(FLOAT32, graph))
    verified = Decision(0, Status.VERIFIED, bound=1.0)
    assert torch.equal(harden([0], box, spec).offsets, spec.offsets)
    judged = harden.judged(0, verified)
    assert (judged.status, judged.reason, judged.final) == (
        Status.UNKNOWN,
        Reason.ROUNDING,
        False,
    )
    found = harden([0], box, spec)
    assert harden.covers(0)
    assert bool((found.offsets < spec.offsets).all())
    assert harden.judged(0, verified) is verified
    refused = Hardening(EvaluationErrors(FLOAT32, None, "an operation"))
    refused.sharpen([0])
    refused([0], box, spec)
    judged = refused.judged(0, verified)
    assert (judged.reason, judged.detail, judged.final) == (
        Reason.NOT_ANALYSED,
        "an operation",
        True,
    )
