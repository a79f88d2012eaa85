"""Rewrite a graph into fewer operations that compute the same function exactly.

Exactly means in real numbers: weights are multiplied in float64 and stay in it. A product of two
float32 weights is exact there; rounded to float32 it would be the weight of another network, whose
bounds say nothing of the file. A rule looks at one node and its predecessors and rewrites it in
place, or passes; rules are applied until none finds anything. Nodes that nothing uses any more are
dropped at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from verify_pipeline.network.graph import Graph
from verify_pipeline.onnx import affine_rules, pattern_rules, shape_rules
from verify_pipeline.onnx.rewriting import Rewriter

Rule = Callable[[Rewriter, int], bool]

PATTERNS: Sequence[Rule] = (pattern_rules.gelu, pattern_rules.gated, pattern_rules.centring)
"""Applied first, while the file's operations stand as they were written."""

RULES: Sequence[Rule] = (
    shape_rules.drop_identity,
    shape_rules.merge_reshapes,
    shape_rules.merge_transposes,
    shape_rules.pad_into_window,
    affine_rules.scale_behind_movement,
    affine_rules.merge_scales,
    affine_rules.scale_into_producer,
    affine_rules.scale_into_consumer,
    affine_rules.transpose_into_linear,
    affine_rules.merge_linears,
)


def simplify(graph: Graph) -> Graph:
    """The same function in fewer nodes, in float64.

    Batch normalisation and normalisation of the input end in the layer beside them where that is
    exact: not in a convolution with zero padding, whose zeros would be normalised too.
    """
    rewriter = Rewriter(graph.to(torch.float64))
    for rules in (PATTERNS, RULES):
        while _sweep(rewriter, rules):
            pass
    return rewriter.graph()


def _sweep(rewriter: Rewriter, rules: Sequence[Rule]) -> bool:
    """Try every rule on every node once; whether any of them rewrote something."""
    changed = False
    for place in range(1, len(rewriter)):
        for rule in rules:
            changed |= rewriter.needed(place) and rule(rewriter, place)
    return changed
