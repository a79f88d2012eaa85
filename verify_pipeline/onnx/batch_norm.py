"""Fold batch normalisation into the layer before it, in an ONNX model."""

from __future__ import annotations

from collections import Counter

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from verify_pipeline.onnx.model_file import Array


def fold_batch_norms(model: ModelProto) -> None:
    """Let each Conv or Gemm do the work of the BatchNormalization that alone follows it, in place.

    Multiplied out in float64. A normalisation after anything else stays.
    """
    graph = model.graph
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    producers = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        layer = producers.get(norm.input[0])
        if layer is None or uses[norm.input[0]] != 1 or not _foldable(layer, norm, weights, uses):
            continue
        _fold(layer, norm, weights)
        layer.output[0] = norm.output[0]
        producers[norm.output[0]] = layer
        graph.node.remove(norm)
    _rewrite_weights(model, weights)


def _foldable(
    layer: NodeProto, norm: NodeProto, weights: dict[str, Array], uses: Counter[str]
) -> bool:
    """Whether the layer is an affine map with constant weights that no other node shares."""
    if layer.op_type not in ("Conv", "Gemm") or not all(name in weights for name in norm.input[1:]):
        return False
    plain = layer.op_type == "Conv" or (
        _attribute(layer, "alpha", 1.0) == 1.0 and _attribute(layer, "beta", 1.0) == 1.0
    )
    own = all(name in weights and uses[name] == 1 for name in layer.input[1:])
    return plain and own


def _fold(layer: NodeProto, norm: NodeProto, weights: dict[str, Array]) -> None:
    gamma, beta, mean, variance = (weights[name].astype(np.float64) for name in norm.input[1:])
    factor = gamma / np.sqrt(variance + _attribute(norm, "epsilon", 1e-5))
    name = layer.input[1]
    weight = weights[name]
    columns = layer.op_type == "Gemm" and not _attribute(layer, "transB", 0)
    along = (1, -1) if columns else (-1,) + (1,) * (weight.ndim - 1)
    bias = np.zeros(())
    if len(layer.input) > 2:
        bias = weights[layer.input[2]].astype(np.float64)
    else:
        layer.input.append(f"{name}.folded_bias")
    weights[name] = (weight * factor.reshape(along)).astype(weight.dtype)
    weights[layer.input[2]] = ((bias - mean) * factor + beta).astype(weight.dtype)


def _rewrite_weights(model: ModelProto, weights: dict[str, Array]) -> None:
    """Store the weights that some node still uses."""
    used = {name for node in model.graph.node for name in node.input}
    tensors = [numpy_helper.from_array(w, name) for name, w in weights.items() if name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)


def _attribute(node: NodeProto, name: str, default: float) -> float:
    found = [item for item in node.attribute if item.name == name]
    return default if not found else (found[0].f or float(found[0].i))
