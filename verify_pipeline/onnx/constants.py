"""Evaluate the nodes of an ONNX file whose inputs are all constant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from onnx import AttributeProto, NodeProto, TypeProto, ValueInfoProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.replay import run_once
from verify_pipeline.onnx.trace import refuse_huge

RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


MISREAD = {"BatchNormalization": 14}
"""Operators that ONNX's reference evaluator takes for others before an operator set: a batch
normalisation without ``training_mode`` for one in training."""

IR_VERSION = 8
"""IR version of the small files for onnxruntime; all of its versions read this one."""


def foldable(node: NodeProto) -> bool:
    """Whether the node computes the same value whenever its inputs are the same."""
    subgraphs = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type not in RANDOM
        and not any(item.type in subgraphs for item in node.attribute)
    )


class FoldingError(ValueError):
    """An operator on constants cannot be evaluated."""


def fold(node: NodeProto, inputs: Sequence[Array | None], opset: int) -> tuple[Array, ...]:
    """The node's outputs at constant inputs, by ONNX's reference evaluator, or by onnxruntime.

    They are computed in the file's own precision: constants that a file computes are its weights,
    and every runtime rounds them like this.

    Args:
        node: a :func:`foldable` one.
        inputs: None where an optional input is left out.
        opset: version of the standard operator set.

    Raises:
        NetworkError: the outputs would be huge.
        FoldingError: neither can compute it.
    """
    _refuse_growth(node, inputs)
    feeds = {
        name: value for name, value in zip(node.input, inputs, strict=True) if value is not None
    }
    if node.op_type in MISREAD and opset < MISREAD[node.op_type]:
        return _by_onnxruntime(node, feeds, opset)
    try:
        return _by_reference(node, feeds, opset)
    except Exception:  # it lacks some operators of some sets; its exceptions vary
        return _by_onnxruntime(node, feeds, opset)


def _by_reference(node: NodeProto, feeds: Mapping[str, Array], opset: int) -> tuple[Array, ...]:
    graph = helper.make_graph(
        [node],
        "constant",
        [ValueInfoProto(name=name, type=TypeProto()) for name in feeds],
        [ValueInfoProto(name=name, type=TypeProto()) for name in node.output if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    computed = ReferenceEvaluator(model).run(None, dict(feeds))
    results = iter(computed if isinstance(computed, Sequence) else ())
    return tuple(np.asarray(next(results)) if name else np.empty(0) for name in node.output)


def _by_onnxruntime(node: NodeProto, feeds: Mapping[str, Array], opset: int) -> tuple[Array, ...]:
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in feeds.items()]
    wanted = [name for name in node.output if name]
    outputs = [ValueInfoProto(name=name) for name in wanted]
    graph = helper.make_graph([node], "constant", [], outputs, weights)
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
    try:
        results = iter(run_once(model.SerializeToString(), wanted))
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        text = str(error).strip() or type(error).__name__
        raise FoldingError(text.splitlines()[0]) from None
    return tuple(np.asarray(next(results)) if name else np.empty(0) for name in node.output)


def _refuse_growth(node: NodeProto, inputs: Sequence[Array | None]) -> None:
    """Refuse operators that expand a small value into a huge one, before allocating it."""
    values = [np.zeros(0) if value is None else value for value in inputs]
    growth: Mapping[str, int] = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
    if node.op_type in growth and len(values) > growth[node.op_type]:
        sizes = [int(size) for size in values[growth[node.op_type]].reshape(-1)]
        elements = math.prod(sizes)
        refuse_huge(elements * values[0].size if node.op_type == "Tile" else elements)
    if node.op_type == "Range" and len(values) == 3 and all(v.size == 1 for v in values):
        start, limit, delta = (float(value.reshape(())) for value in values)
        refuse_huge(abs(int((limit - start) / delta)) if delta else 0)
    if node.op_type in ("Pad", "Resize", "OneHot"):
        refuse_huge(sum(value.size for value in values) + sum(_sizes(values[1:])))


def _sizes(values: Sequence[Array]) -> list[int]:
    return [abs(int(value.astype(np.int64).sum())) for value in values if value.dtype.kind == "i"]
