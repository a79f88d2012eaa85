"""A network to certify: its graph, its file's identity, and its replay."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from verify_pipeline.errors import NetworkError
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.written import Written
from verify_pipeline.onnx.batches import refuse_mixing
from verify_pipeline.onnx.external_data import inline_external_data
from verify_pipeline.onnx.front import Front, with_front
from verify_pipeline.onnx.model_file import (
    LARGEST_FILE,
    inline_functions,
    parse_model,
    serialised,
    signature,
)
from verify_pipeline.onnx.parity import check_at_random
from verify_pipeline.onnx.reader import read_graph
from verify_pipeline.onnx.replay import Replayer, runner_of


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
        input_dtype: what an input is rounded to before the file is given it.
        compared: whether the graph is compared with the file, when it is read and again where it is
            certified.
        written: the file's own operations, before any are merged; None: they are not known.
    """

    graph: Graph
    path: Path | None
    digest: str
    metadata: dict[str, str]
    replay: Replayer
    input_dtype: torch.dtype = torch.float32
    compared: bool = True
    written: Written | None = None

    def __repr__(self) -> str:
        name = "in memory" if self.path is None else self.path.name
        return f"Network({name}, {self.digest[:12]}: {self.graph})"

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
        check_parity: whether the graph is compared with onnxruntime, here (:func:`check`) and in
            the boxes that it is certified over.

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
    inlined = inline_functions(model, source)
    read = read_graph(inlined, source)
    try:
        what, precision = signature(model, source), read.written.coarsest
        replay = Replayer(data, what, source, precision=precision)
    except NetworkError:  # it detects mixed inputs by their numbers; the structure names the node
        refuse_mixing(inlined, source, read.of_shapes, takes_batches=False)
        raise
    refuse_mixing(inlined, source, read.of_shapes, replay.batched)
    network = Network(
        graph=read.graph,
        path=path,
        digest=digest,
        metadata={item.key: item.value for item in model.metadata_props},
        replay=replay,
        input_dtype=replay.input_dtype,
        compared=check_parity,
        written=read.written,
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
    """Compare a network's graph with its file; see ``parity.check_at_random``."""
    precision = torch.float32 if network.written is None else network.written.coarsest
    replay, runner = network.replay, runner_of(network.replay)
    return check_at_random(network.graph, replay, network.input_dtype, source, precision, runner)
