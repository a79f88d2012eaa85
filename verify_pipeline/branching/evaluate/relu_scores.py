"""What splitting a ReLU is expected to bring, from one walk back through the network.

The walk shows of each neuron its coefficient ``A`` in the row's lower bound, the lines of its
relaxation, and the constant ``b`` that reaches its input when all activations before it are 0. With
the upper line's slope ``s`` and offset ``o``, a neuron adds ``A s b + min(A, 0) o`` to the bound;
once it is split it adds ``A b`` (active) or 0 (inactive):

* BaBSR (Bunel et al. 2020, arXiv:1909.06588, section 4.2; for backward bounds Wang et al. 2021,
  arXiv:2103.06624, appendix B): the lesser of both gains.
* Intercept: ``-min(A, 0) o`` alone, which BaBSR falls back on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.tree.splittable import slope
from verify_pipeline.branching.tree.subproblems import Neurons
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Add, Concat, Constant, LinearOp, Sub


def scores(
    graph: Graph, neurons: Neurons, bounds: NodeBounds, coefficients: dict[int, Tensor]
) -> tuple[Tensor, Tensor]:
    """BaBSR and intercept scores of every neuron, ``D x R`` each; 0 where it is stable.

    Args:
        graph: the network.
        neurons: its neurons.
        bounds: of the activations' inputs, cut by the splits, ``D`` domains.
        coefficients: ``D x *V`` that arrive at activations' values in the row's lower bound; 0 at
            those that are left out.
    """
    like = next(iter(bounds.lower.values()))
    constants, babsr, intercept = _constants(graph, like), {}, {}
    for place, source in zip(neurons.places, neurons.sources, strict=True):
        if place not in coefficients:
            continue
        lower, upper = bounds.lower[source], bounds.upper[source]
        least = slope(graph.nodes[place])
        unstable = (lower < 0) & (upper > 0)
        up = torch.where(unstable, (upper - least * lower) / (upper - lower), 1.0)
        offset = (least - up) * lower
        arriving, constant = coefficients[place], constants[source]
        relaxed = arriving * up * constant + arriving.clamp(max=0) * offset
        gain = torch.minimum(arriving * constant, least * arriving * constant) - relaxed
        babsr[place] = torch.where(unstable, gain.abs(), 0.0)
        intercept[place] = torch.where(unstable, -arriving.clamp(max=0) * offset, 0.0)
    return neurons.flatten(babsr, like), neurons.flatten(intercept, like)


def _constants(graph: Graph, like: Tensor) -> list[Tensor]:
    """Every node's value, ``1 x *V``, where the input and all activations are 0."""
    values: list[Tensor] = []
    for node in graph.nodes:
        if isinstance(node.op, LinearOp | Add | Sub | Concat | Constant):
            values.append(node.op(*(values[i] for i in node.inputs)))
        else:
            values.append(like.new_zeros(1, *node.shape))
    return values
