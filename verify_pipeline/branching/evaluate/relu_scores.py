"""Scores of ReLUs: the expected gain of a split, from one backward pass through the network.

The pass gives the coefficient ``A`` of each neuron in the row's lower bound and the lines of its
relaxation. The constant ``b`` is the neuron's input when the network's input and all activations
before it are 0. With slope ``s`` and offset ``o`` of the upper line, a neuron adds
``A s b + min(A, 0) o`` to the bound. After a split it adds ``A b`` (active) or 0 (inactive).

* BaBSR (Bunel et al. 2020, arXiv:1909.06588, section 4.2; for backward bounds Wang et al. 2021,
  arXiv:2103.06624, appendix B): the lesser gain of the two parts.
* Intercept: ``-min(A, 0) o`` alone, the score that BaBSR falls back on.
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
        neurons: the neurons of the graph.
        bounds: bounds of the activations' inputs, clamped to the splits, ``D`` domains.
        coefficients: node index of an activation -> its coefficients ``D x *V`` in the row's lower
            bound; an activation that is missing has coefficients 0.
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
    """The value of every node, ``1 x *V``, when the input and all activations are 0."""
    values: list[Tensor] = []
    for node in graph.nodes:
        if isinstance(node.op, LinearOp | Add | Sub | Concat | Constant):
            values.append(node.op(*(values[i] for i in node.inputs)))
        else:
            values.append(like.new_zeros(1, *node.shape))
    return values
