"""Preprocessing between pixels and the network's input: normalisation and axis order.

Boxes and counterexamples remain in pixel space. The preprocessing of a deployed pipeline becomes
part of the certified network. It normalises in float32, ``(x - mean) / std`` with mean and std
rounded to float32, as torchvision's ``Normalize`` does. So does the replay, before onnxruntime gets
the result; a bound is of the same formula with the same rounded numbers in exact arithmetic, up to
float64's rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from verify_pipeline.certify.contract import Certifiable, Replay
from verify_pipeline.certify.records import exactly
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.network.affine_error import Norms, of_roundings
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Input, Op, Reshape, Scale, Transpose, size
from verify_pipeline.network.written import Written
from verify_pipeline.onnx.front import Front

Layout = Literal["nchw", "nhwc"]

FLOAT32 = torch.finfo(torch.float32)

CHANNELS_LAST = (1, 2, 0)
"""Axes of ``C x H x W`` in the order ``H x W x C``."""


@dataclass(frozen=True)
class Preprocessing:
    """Normalisation and axis order before the network.

    Attributes:
        mean: subtracted first: no number, one, or one for each channel.
        std: divided by then, as many; > 0.
        layout: order in which the network takes an image's ``C x H x W`` pixels; None: as its
            input's shape says.

    Raises:
        ConfigError: numbers that do not fit together, or a std that is not above zero.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ConfigError(
                "mean and std",
                expected="as many numbers of one as of the other",
                got=f"{len(self.mean)} and {len(self.std)}",
            )
        # both are rounded to float32, which must keep them finite, and std above zero
        kept = torch.tensor([self.mean, self.std], dtype=torch.float32)
        if not bool(torch.isfinite(kept).all()):
            raise ConfigError(
                "mean and std",
                expected=f"numbers that float32 can hold, up to {FLOAT32.max:.3g}",
                got=f"{self.mean} and {self.std}",
            )
        if not bool((kept[1] >= FLOAT32.tiny).all()):
            raise ConfigError(
                "std",
                expected=f"numbers that float32 can divide by: std above zero, at least "
                f"{FLOAT32.tiny:.3g}",
                got=",".join(map(str, self.std)),
            )

    @property
    def name(self) -> str:
        """As in the ledger; empty if nothing is done to the numbers."""
        if not self.mean:
            return ""
        mean, std = (",".join(map(exactly, numbers)) for numbers in (self.mean, self.std))
        return f"mean {mean} std {std}"

    def normalise(self, pixels: Tensor) -> Tensor:
        """Preprocess float32 pixels ``N x *X`` in float32, as the deployed pipeline does."""
        if not self.mean:
            return pixels
        mean, std = self._constants(pixels.dim() - 1)
        return (pixels.to(torch.float32) - mean) / std

    def scale(self, shape: tuple[int, ...]) -> Scale:
        """The same as an operation in float64, of pixels of that shape ``*X``.

        Raises:
            DataError: there are several numbers, and not as many channels.
        """
        count = len(self.mean)
        if count > 1 and (len(shape) != len(CHANNELS_LAST) or shape[0] != count):
            raise DataError(
                "mean and std",
                expected=f"one number, or one for each channel of images of shape {shape}",
                got=f"{count} numbers",
            )
        mean, std = (numbers.double() for numbers in self._constants(len(shape)))
        inverse, shift = 1 / std, -mean / std
        error = of_roundings(1, Norms(float(inverse.abs().max()), float(shift.abs().max())))
        return Scale(inverse, shift, error)

    def front(self, shape: tuple[int, ...], layout: Layout) -> Front:
        """The same for a file, of pixels of that shape ``*X``."""
        order = CHANNELS_LAST if layout == "nhwc" else None
        if not self.mean:
            return Front(shape, order=order)
        mean, std = (numbers.numpy() for numbers in self._constants(len(shape)))
        return Front(shape, mean, std, order)

    def _constants(self, axes: int) -> tuple[Tensor, Tensor]:
        place = (-1, *[1] * (axes - 1)) if len(self.mean) > 1 else (1,) * axes
        mean, std = (
            torch.tensor(numbers, dtype=torch.float32) for numbers in (self.mean, self.std)
        )
        return mean.reshape(place), std.reshape(place)


AS_IT_IS = Preprocessing()
"""Nothing is done to the numbers."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network with its preprocessing in front, as certification uses it.

    Attributes:
        graph: of pixels.
        path: of the network's file.
        digest: of the network's file.
        metadata: notes in the network's file.
        replay: float32 preprocessing, then the file.
        input_dtype: of the pixels: float32 where they are normalised, else as the file takes them.
        compared: whether graph and replay are compared before anything is certified.
        front: the preprocessing, for a file of pixels; None: the network's file takes the pixels
            as they are, in their order.
        written: of pixels, the file's own operations behind the preprocessing's.
    """

    graph: Graph
    path: Path | None
    digest: str
    metadata: Mapping[str, str]
    replay: Replay
    input_dtype: torch.dtype = torch.float32
    compared: bool = True
    front: Front | None = None
    written: Written | None = None


def prepare(
    network: Certifiable, preprocessing: Preprocessing, shape: tuple[int, ...]
) -> tuple[Prepared, str]:
    """The network that takes pixels.

    Args:
        network: that takes what the pipeline makes of them.
        preprocessing: what it does.
        shape: ``*X`` of the pixels.

    Returns:
        The network, and what distinguishes it from its file, for ledgers: empty if nothing does.

    Raises:
        DataError: the pixels are not such that the network could take them.
        ConfigError: the axis order is ambiguous.
    """
    wanted = network.graph.input_shape
    layout = preprocessing.layout or _layout(shape, wanted)
    if layout == "nhwc" and len(shape) != len(CHANNELS_LAST):
        raise DataError("layout nhwc", expected="images of shape C x H x W", got=str(shape))
    ops: list[Op] = [preprocessing.scale(shape)] if preprocessing.mean else []
    if layout == "nhwc":
        ops.append(Transpose(CHANNELS_LAST))
    moved = _moved(shape, layout)
    if moved != wanted:
        if not _are_the_same_vector(moved, wanted):
            raise _misfit(moved, wanted)
        ops.append(Reshape(wanted))
    if not ops:
        return _as_it_is(network), ""

    def replay(pixels: Tensor) -> Tensor:
        x = preprocessing.normalise(pixels)
        if layout == "nhwc":
            x = x.permute(0, *(axis + 1 for axis in CHANNELS_LAST))
        return network.replay(x.reshape(len(x), *wanted))

    words = [preprocessing.name, "layout nhwc" if layout == "nhwc" else ""]
    front = preprocessing.front(shape, layout) if any(words) else None
    graph = _behind(network.graph, ops, shape)
    dtype = torch.float32 if preprocessing.mean else network.input_dtype
    written = network.written
    if written is not None:
        written = replace(written, graph=_behind(written.graph, ops, shape))
    made = replace(
        _as_it_is(network),
        graph=graph,
        replay=replay,
        input_dtype=dtype,
        front=front,
        written=written,
    )
    return made, "; ".join(word for word in words if word)


def _as_it_is(network: Certifiable) -> Prepared:
    return Prepared(
        network.graph,
        network.path,
        network.digest,
        network.metadata,
        network.replay,
        network.input_dtype,
        network.compared,
        written=network.written,
    )


def _layout(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Layout:
    """The order that the network's input shape shows.

    Axes of length one do not count; a network of flat vectors shows nothing, but needs not where
    there is one channel.
    """
    theirs = _without_ones(wanted)
    if len(shape) != len(CHANNELS_LAST) or _without_ones(shape) == theirs:
        return "nchw"
    if _without_ones(_moved(shape, "nhwc")) == theirs:
        return "nhwc"
    if _are_the_same_vector(shape, wanted) and shape[0] > 1:
        raise ConfigError(
            "layout",
            expected=f"nchw or nhwc, for images {shape} and a network of flat vectors",
            got="neither",
            remedy="Say with --layout in which order it takes them.",
        )
    return "nchw"


def _are_the_same_vector(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a reshape is no more than that: axes of length one, or all axes made one.

    A flat vector becomes an image only of one channel: the order of several is not known.
    """
    ours, theirs = _without_ones(shape), _without_ones(wanted)
    if len(theirs) <= 1 or (len(ours) <= 1 and 1 in wanted):
        return size(shape) == size(wanted)
    return ours == theirs


def _moved(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in CHANNELS_LAST) if layout == "nhwc" else shape


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axis for axis in shape if axis != 1)


def _misfit(shape: tuple[int, ...], wanted: tuple[int, ...]) -> DataError:
    return DataError(
        "images",
        expected=f"the network's input shape {wanted}",
        got=str(shape),
        remedy="Check that the data set and the network belong together.",
    )


def _behind(graph: Graph, ops: list[Op], shape: tuple[int, ...]) -> Graph:
    """The graph after further operations, one after the other, of an input ``*X``."""
    taken = {node.name for node in graph.nodes}
    nodes = [Node(_free("pixels", taken), Input(), (), shape)]
    for op in ops:
        value = op(torch.zeros(1, *nodes[-1].shape, dtype=torch.float64))
        name = _free(f"pixels_{type(op).__name__.lower()}", taken)
        nodes.append(Node(name, op, (len(nodes) - 1,), tuple(value.shape[1:])))
    shift = len(nodes) - 1  # node 0, the old input, is now the last of these
    later = (
        replace(node, inputs=tuple(place + shift for place in node.inputs))
        for node in graph.nodes[1:]
    )
    return Graph((*nodes, *later))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
