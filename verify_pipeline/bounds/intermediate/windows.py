"""Windows of planes: what neurons at different positions of a plane depend on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Windows of a plane: the window of the neuron at ``(y, x)`` starts at ``step (y, x) + start``.

    Attributes:
        extent: height and width of a window.
        step: distance between the windows of neighbouring neurons.
        start: start of the window of the neuron at (0, 0); may be negative.
    """

    extent: Pair = (1, 1)
    step: Pair = (1, 1)
    start: Pair = (0, 0)

    def through(self, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Windows:
        """The windows of a convolution's input from which these windows of its output follow."""
        return Windows(
            extent=pair(
                (self.extent[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
                for i in range(2)
            ),
            step=pair(self.step[i] * stride[i] for i in range(2)),
            start=pair(self.start[i] * stride[i] - padding[i] for i in range(2)),
        )

    def union(self, other: Windows) -> Windows | None:
        """The smallest windows that contain both; None if their steps differ."""
        if self.step != other.step:
            return None
        start = pair(min(self.start[i], other.start[i]) for i in range(2))
        end = (max(v.start[i] + v.extent[i] for v in (self, other)) for i in range(2))
        return Windows(pair(e - s for e, s in zip(end, start, strict=True)), self.step, start)

    def margins(self, base: Pair, plane: Pair) -> tuple[int, int, int, int]:
        """How far the windows of all neurons of ``base`` extend beyond ``plane``, as for F.pad."""
        before = [max(0, -self.start[i]) for i in range(2)]
        ends = [(base[i] - 1) * self.step[i] + self.start[i] + self.extent[i] for i in range(2)]
        after = [max(0, ends[i] - plane[i]) for i in range(2)]
        return before[1], after[1], before[0], after[0]

    def cut(self, planes: Tensor, base: Pair, which: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """The windows of neurons, with zeros outside the plane.

        Args:
            planes: ``N x C x H x W``.
            base: height and width of the neurons' plane.
            which: instance of each neuron, ``Q``.
            y: row of each neuron, ``Q``.
            x: column of each neuron, ``Q``.

        Returns:
            ``Q x C x h x w``.
        """
        left, right, top, bottom = self.margins(base, (planes.shape[2], planes.shape[3]))
        padded = F.pad(planes, (left, right, top, bottom))
        channels, height, width = padded.shape[1:]
        # selecting a window's rows among all stretches of their length is four times as fast as
        # selecting windows among all windows
        first = (which * (channels * height) + y * self.step[0] + self.start[0] + top) * width
        first += x * self.step[1] + self.start[1] + left
        plane = torch.arange(channels, device=planes.device) * height
        rows = plane.unsqueeze(1) + torch.arange(self.extent[0], device=planes.device)
        places = first.unsqueeze(1) + rows.flatten() * width
        stretches = padded.flatten().unfold(0, self.extent[1], 1)
        return stretches.index_select(0, places.flatten()).view(-1, channels, *self.extent)


def pair(values: Iterable[int]) -> Pair:
    """Two numbers as a pair: of rows, then of columns."""
    first, second = values
    return first, second
