"""The attack of certification: search each box for an input that breaks the specification.

The attack is projected gradient descent (Madry et al. 2018, arXiv:1706.06083) on the margins
themselves, not on a loss. Each targeted row of the specification is attacked from its own point,
because descent on the least margin can miss the input that breaks another row (multi-targeted
attack: Gowal et al. 2019, arXiv:1910.09338). If some rows may fail, more rows must fail together to
break the specification; a point then descends on the greatest margin of such a set of rows.

Most images that are attacked are robust, and their margins stop falling after a few steps. A point
is therefore left as soon as it falls too slowly to reach zero in its round.

Shape letters: ``N`` instances, ``T`` targets, ``R`` rows of a target (one, if no row may fail),
``*X`` the input's shape, ``S`` rows of the specification.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification
from verify_pipeline.settings import STRICT, Count, Positive, PositiveCount, Unit


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FalsifySettings:
    """How hard the attack tries.

    Attributes:
        restarts: number of rounds. The first round starts at the given points, each other round at
            new random points.
        steps: gradient steps in each round.
        targets: how many of the rows with the least margins are attacked in a round, each from its
            own point.
        step_size: the first step, in half-widths of the box.
        last_step: the last step as a share of the first; step sizes decrease geometrically.
        momentum: share of the previous direction that a step keeps (Dong et al. 2018,
            arXiv:1710.06081); 0 for none.
        patience: a point is left after so many steps, or a multiple of them, if its margin would
            not reach zero in the remaining steps at the mean rate of the last ``patience`` steps.
            From ``steps`` on, no point is left early.
        seed: seed of the random starts.
        samples: number of random points in a property's box; the first round starts at the best of
            them. For images, the first round starts at the image.
        samples_up_to: largest number of inputs for which these points are drawn. For a box with
            more inputs, the first round starts at its centre.
    """

    restarts: PositiveCount = 2
    steps: PositiveCount = 40
    targets: PositiveCount = 3
    step_size: Positive = 0.5
    last_step: Unit = 0.05
    momentum: Unit = 0.5
    patience: PositiveCount = 5
    seed: Count = 0
    samples: PositiveCount = 1024
    samples_up_to: Count = 32

    def step(self, number: int) -> float:
        """The size of step ``number`` (counted from 0) in half-widths of the box."""
        last = max(self.last_step, 1e-6)
        return float(self.step_size * last ** (number / max(self.steps - 1, 1)))


@plain_dataclass(frozen=True, eq=False)
class Attacked:
    """The results of an attack.

    Attributes:
        points: the input with the least margin found in each box, ``N x *X``.
        margins: the margin of an attacked row at this input, ``N``, as computed by the graph. It
            proves nothing until the input is replayed.
    """

    points: Tensor
    margins: Tensor


def falsify(
    graph: Graph,
    box: Box,
    spec: Specification,
    start: Tensor,
    settings: FalsifySettings,
    seeds: Sequence[int],
    has_time: Callable[[], bool] = lambda: True,
) -> Attacked:
    """Search each box for an input with a margin <= 0.

    An instance leaves the batch as soon as such an input is found. The random starts of an instance
    depend only on its own seed and on the settings' seed, not on the batch.

    Args:
        graph: the network, in the dtype of the boxes.
        box: ``N`` boxes.
        spec: ``N`` specifications.
        start: starting points of the first round inside the boxes, ``N x *X``.
        settings: how hard to try.
        seeds: one seed for each instance.
        has_time: called before each step; the attack ends once it returns False.
    """
    best = Attacked(start.clone(), least_margins(graph, spec, start))
    open_ = (best.margins > 0).nonzero().flatten()
    for number in range(settings.restarts):
        if len(open_) == 0 or not has_time():
            break
        start = best.points[open_]
        if number > 0:
            chosen = [seeds[n] for n in open_.tolist()]
            start = _random_points(box[open_], chosen, settings.seed + number)
        found = _round(graph, box[open_], spec[open_], start, settings, has_time)
        better = found.margins < best.margins[open_]
        best.points[open_[better]] = found.points[better]
        best.margins[open_[better]] = found.margins[better]
        open_ = open_[best.margins[open_] > 0]
    return best


def least_margins(graph: Graph, spec: Specification, points: Tensor) -> Tensor:
    """The value of the row that decides each instance's specification at its point, ``N``.

    NaN counts as +inf.
    """
    with torch.no_grad():
        values = spec.least(spec.values(graph(points)))
    return values.nan_to_num(nan=torch.inf, neginf=torch.inf)


@plain_dataclass(frozen=True, eq=False)
class _Descents(Batched):
    """``P`` points that descend, each on one target of one instance.

    Attributes:
        owner: the instance of each point, ``P``.
        rows: of its target, ``P x R x K``.
        offsets: of these rows, ``P x R``.
        points: ``P x *X``.
        direction: sum of the gradients so far, with less weight on earlier ones, ``P x *X``.
        least: its least margin so far, ``P``.
        before: the same when its progress was last judged, ``P``.
    """

    owner: Tensor
    rows: Tensor
    offsets: Tensor
    points: Tensor
    direction: Tensor
    least: Tensor
    before: Tensor

    def may_arrive(self, steps: float) -> Tensor:
        """Whether a margin reaches zero after ``steps`` times the progress since ``before``."""
        return self.least <= (self.before - self.least) * steps


def _round(
    graph: Graph,
    box: Box,
    spec: Specification,
    start: Tensor,
    settings: FalsifySettings,
    has_time: Callable[[], bool],
) -> Attacked:
    """One round of descent from ``start`` on each instance's rows with the least margins."""
    each, radius = _started(graph, spec, start, settings.targets), box.radius
    best = Attacked(start.clone(), torch.full_like(start.flatten(1)[:, 0], torch.inf))
    for number in range(settings.steps):
        margins, gradient = _descent(graph, each)
        _keep_best(best, each, margins)
        least = torch.minimum(each.least, margins)
        direction = settings.momentum * each.direction + _unit(gradient)
        each = replace(each, direction=direction, least=least)
        open_ = best.margins[each.owner] > 0
        if number % settings.patience == 0:
            if number > 0:
                open_ &= each.may_arrive((settings.steps - number) / settings.patience)
            each = replace(each, before=least)
        each = each[open_]
        if len(each) == 0 or not has_time():
            return best
        moved = each.points - settings.step(number) * radius[each.owner] * each.direction.sign()
        points = moved.clamp(box.lower[each.owner], box.upper[each.owner])
        each = replace(each, points=points)
    _keep_best(best, each, _descent(graph, each)[0])
    return best


def _started(graph: Graph, spec: Specification, start: Tensor, targets: int) -> _Descents:
    """Points at ``start``, one for each target of each instance."""
    rows, offsets = _closest_rows(graph, spec, start, targets)
    owner = torch.arange(len(spec), device=start.device).repeat_interleave(rows.shape[1])
    points = start[owner]
    unknown = torch.full_like(points.flatten(1)[:, 0], torch.inf)
    direction = torch.zeros_like(points)
    rows, offsets = rows.flatten(0, 1), offsets.flatten(0, 1)
    return _Descents(owner, rows, offsets, points, direction, unknown, unknown)


def _closest_rows(
    graph: Graph, spec: Specification, points: Tensor, targets: int
) -> tuple[Tensor, Tensor]:
    """The rows with the least margins at ``points``: ``N x T x R x K``, offsets ``N x T x R``.

    Each target consists of the least rows, as many as may fail, and of one more row of its own.
    """
    with torch.no_grad():
        values = spec.values(graph(points))
    count = min(spec.spare + targets, values.shape[1])
    order = values.topk(count, dim=1, largest=False).indices
    own = order[:, spec.spare :, None]
    common = order[:, None, : spec.spare].expand(-1, own.shape[1], -1)
    chosen = torch.cat([common, own], dim=2)
    instances = torch.arange(len(spec), device=chosen.device)[:, None, None]
    return spec.rows[instances, chosen], spec.offsets[instances, chosen]


def _descent(graph: Graph, each: _Descents) -> tuple[Tensor, Tensor]:
    """Each point's targeted margin and its gradient; a NaN margin counts as +inf."""
    with torch.enable_grad():
        points = each.points.detach().requires_grad_()
        values = (each.rows * graph(points).unsqueeze(1)).sum(2) + each.offsets
        margins = values.amax(1)
        (gradient,) = torch.autograd.grad(margins.sum(), points)
    return margins.detach().nan_to_num(nan=torch.inf, neginf=torch.inf), gradient


def _keep_best(best: Attacked, each: _Descents, margins: Tensor) -> None:
    """Update ``best`` in place with the points whose margins are lower than their owners' best."""
    owner = each.owner
    least = best.margins.scatter_reduce(0, owner, margins, "amin")
    improved = (margins < best.margins[owner]) & (margins == least[owner])
    best.points[owner[improved]] = each.points[improved]
    best.margins.copy_(least)


def _unit(gradient: Tensor) -> Tensor:
    """Each gradient divided by its mean absolute value; zero and NaN give zero."""
    size = gradient.flatten(1).abs().mean(1).clamp_min(torch.finfo(gradient.dtype).tiny)
    return (gradient / size.reshape(-1, *[1] * (gradient.dim() - 1))).nan_to_num(0.0, 0.0, 0.0)


def _random_points(box: Box, seeds: Sequence[int], number: int) -> Tensor:
    """A uniformly random point of each box, drawn with its own generator, ``N x *X``."""
    shape = box.lower.shape[1:]
    shares = []
    for seed in seeds:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % (1 << 63))
        shares.append(torch.rand(shape, generator=generator))
    share = torch.stack(shares).to(box.lower)
    return (box.lower + share * (box.upper - box.lower)).clamp(box.lower, box.upper)
