"""A network to certify: its graph, its file's identity, and its replay in onnxruntime."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from verify_pipeline.errors import NetworkError
from verify_pipeline.network.graph import Graph
from verify_pipeline.onnx.external_data import inline_external_data
from verify_pipeline.onnx.front import Front, with_front
from verify_pipeline.onnx.model_file import (
    LARGEST_FILE,
    inline_functions,
    parse_model,
    serialised,
    signature,
)
from verify_pipeline.onnx.reader import read_graph
from verify_pipeline.onnx.replay import Replayer

TOLERANCE = 1e-4
"""Greatest :func:`relative_difference` from onnxruntime that is let pass.

Networks of VNN-COMP, in onnxruntime's float32, stay below 2e-5.
"""

FLOOR = 0.01
"""Least scale of an output, as a share of the greatest output's."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network as certification takes it, own or third-party.

    Attributes:
        graph: float64, ``N x *X`` to ``N x K``; the file's weights, products of neighbouring ones
            merged without rounding to float32. ``graph.to(torch.float32)`` is for searching only.
        path: of its ONNX file; None for a network that was never one.
        digest: SHA-256 of the file's bytes, and of the files that hold its weights, in hexadecimal.
        metadata: what its exporter noted in the file.
        replay: the file in onnxruntime, ``N x *X`` to ``N x K``.
    """

    graph: Graph
    path: Path | None
    digest: str
    metadata: dict[str, str]
    replay: Replayer

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``*X``."""
        return self.graph.input_shape

    @property
    def outputs(self) -> int:
        """K."""
        return self.graph.outputs


def load_network(path: Path | str, check_parity: bool = True) -> Network:
    """Read an ONNX file.

    Args:
        path: of the file.
        check_parity: whether the graph is compared with onnxruntime; see :func:`check`.

    Raises:
        UnsupportedOperatorError: it has an operator that cannot be read.
        NetworkError: it is missing, damaged, no ONNX file, holds NaN, or does not compute what its
            graph computes.
    """
    path = Path(path)
    return network_from_bytes(_bytes_of(path), path, check_parity)


def network_from_bytes(data: bytes, path: Path | None = None, check_parity: bool = True) -> Network:
    """As :func:`load_network`, from the bytes of a file.

    Weights in other files are looked for beside ``path``.
    """
    source = "network" if path is None else str(path)
    model = parse_model(data, source)
    elsewhere = inline_external_data(model, None if path is None else path.parent, source)
    digest = hashlib.sha256(data + elsewhere).hexdigest()
    if elsewhere:
        data = serialised(model, source)
    graph = read_graph(inline_functions(model, source), source)
    network = Network(
        graph=graph,
        path=path,
        digest=digest,
        metadata={item.key: item.value for item in model.metadata_props},
        replay=Replayer(data, signature(model, source), source),
    )
    if check_parity:
        check(network, source)
    return network


def file_with_front(path: Path, front: Front) -> bytes:
    """The bytes of one file: what stands in front of a network, and the network of a file.

    Raises:
        NetworkError: it cannot be read or written so; see :func:`with_front`.
    """
    model = parse_model(_bytes_of(path), str(path))
    inline_external_data(model, path.parent, str(path))
    return with_front(model, front, str(path))


def _bytes_of(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise NetworkError(
                str(path), expected=f"at most {LARGEST_FILE} bytes", got=f"{size} bytes"
            )
        return path.read_bytes()
    except OSError as error:
        raise NetworkError(
            f"network file {path}",
            expected="an ONNX file",
            got=error.strerror or str(error),
            remedy="Check the path.",
        ) from None


def check(network: Network, source: str) -> float:
    """Compare a network's graph with onnxruntime on random inputs, one alone and five in a batch.

    The graph is in float64, so that the difference is onnxruntime's rounding and no other.

    Returns:
        The :func:`relative_difference`, inputs at which neither is finite left out.

    Raises:
        NetworkError: it is above :data:`TOLERANCE`, or no output is finite.
    """
    generator = torch.Generator().manual_seed(0)
    shape = network.input_shape
    uniform = torch.rand(4, *shape, generator=generator)
    normal = torch.randn(2, *shape, generator=generator)
    worst = _parity(network, (uniform[:1], torch.cat([uniform[1:], normal])))
    # not <=, so that a NaN does not pass
    if not worst <= TOLERANCE:
        raise NetworkError(
            source,
            expected=f"a graph that computes what onnxruntime does, to {TOLERANCE} of each output",
            got=f"a difference of {worst:.2g}",
            remedy="The file may mix the inputs of a batch; otherwise please report it.",
        )
    return worst


def _parity(network: Network, batches: Sequence[Tensor]) -> float:
    ours = [network.graph(x.double()) for x in batches]
    theirs = [network.replay(x) for x in batches]
    if any(a.shape != b.shape for a, b in zip(ours, theirs, strict=True)):
        return math.nan
    found, expected = torch.cat(ours), torch.cat(theirs)
    rows = (torch.isfinite(found) | torch.isfinite(expected)).all(dim=1)
    return relative_difference(found[rows], expected[rows])


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Greatest difference of an output relative to what that output comes to.

    Each of the K outputs has a scale of its own, its greatest absolute value over the rows: a
    single large one must not hide what the others differ by. It is at least a :data:`FLOOR` of the
    greatest of all, since an output that comes near zero has the rounding of the terms that
    cancelled.

    Args:
        found: ``N x K``.
        expected: ``N x K``.

    Returns:
        NaN if there are no rows, or a value is not finite.
    """
    if not expected.numel():
        return math.nan
    found, expected = found.double(), expected.double()
    scale = expected.abs().amax(0)
    floor = (FLOOR * scale.max()).clamp_min(torch.finfo(torch.float32).tiny)
    return float(((found - expected).abs().amax(0) / torch.maximum(scale, floor)).max())
