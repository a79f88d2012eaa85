"""Weights that an ONNX file keeps in other files beside it.

torch's exporter and ``onnx.save`` do so for large weights. They are read into the model, so that
all later code sees one file, and their bytes are part of the network's identity.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from onnx.external_data_helper import uses_external_data

from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx.model_file import LARGEST_FILE

NUMBER = re.compile(r"[0-9]{1,19}")
"""Of bytes."""


def inline_external_data(model: ModelProto, folder: Path | None, source: str) -> bytes:
    """Read all weights in other files into ``model``, in place.

    Args:
        model: as parsed, its weights not read yet.
        folder: that the file lies in; the others lie in it or below. None: there is none.
        source: how messages name the file.

    Returns:
        What identifies the other files: a hash of each one's name and bytes; empty without any.

    Raises:
        NetworkError: a file is outside of the folder, missing, shorter than it must be, or all
            together are larger than one ONNX file can be.
    """
    outside = [tensor for tensor in _tensors(model) if uses_external_data(tensor)]
    if not outside:
        return b""
    if folder is None:
        raise NetworkError(
            f"{source}: weight {outside[0].name}",
            expected="all weights inside the ONNX file, which has no folder here",
            got="weights in another file",
            remedy="Save it as one file: onnx.save(onnx.load(path), new_path).",
        )
    entries = [{entry.key: entry.value for entry in tensor.external_data} for tensor in outside]
    files = _read({entry.get("location", "") for entry in entries}, folder, source)
    for tensor, entry in zip(outside, entries, strict=True):
        tensor.raw_data = _part(files[entry["location"]], entry, f"{source}: weight {tensor.name}")
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    parts = (name.encode() + b"\0" + hashlib.sha256(files[name]).digest() for name in sorted(files))
    return b"".join(parts)


def _part(data: bytes, entry: dict[str, str], what: str) -> bytes:
    """The bytes of one weight, all of the file where it does not say which."""
    start, length = entry.get("offset", "0"), entry.get("length", "")
    if NUMBER.fullmatch(start) and (not length or NUMBER.fullmatch(length)):
        end = int(start) + int(length) if length else len(data)
        if int(start) <= end <= len(data):
            return data[int(start) : end]
    raise NetworkError(
        what,
        expected=f"{length or 'the'} bytes from {start} on of {entry['location']}",
        got=f"a file of {len(data)} bytes",
        remedy="It may be truncated; fetch or export it again.",
    )


def _read(locations: set[str], folder: Path, source: str) -> dict[str, bytes]:
    """The files' bytes, by their names in the model."""
    paths = {location: _inside(location, folder, source) for location in locations}
    try:
        total = sum(path.stat().st_size for path in paths.values())
        if total > LARGEST_FILE:
            raise NetworkError(
                f"{source}: weights in other files",
                expected=f"at most {LARGEST_FILE} bytes",
                got=f"{total} bytes",
            )
        return {location: path.read_bytes() for location, path in paths.items()}
    except OSError as error:
        raise NetworkError(
            f"{source}: weights in {error.filename}",
            expected="a file beside the ONNX file",
            got=error.strerror or str(error),
            remedy="Copy it there, under the name it was exported with.",
        ) from None


def _inside(location: str, folder: Path, source: str) -> Path:
    """The path of a file in the folder, or below, links followed."""
    try:
        home = folder.resolve()
        path = (home / location).resolve()
    except (OSError, ValueError, RuntimeError):
        path = home = Path()
    if not location or not path.is_relative_to(home) or path == home:
        raise NetworkError(
            f"{source}: weights in {location!r}",
            expected="a file in the ONNX file's folder",
            got="one elsewhere",
            remedy="A network from a source you trust has its weights beside it.",
        )
    return path


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """All tensors of a model, those of functions and of graphs inside nodes too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _of_graph(graph)
