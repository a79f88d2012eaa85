"""Sound bounds of a graph's values over boxes, for many instances and domains at once.

Three things are kept apart, and methods put them together:

* the walk through the graph: forward with intervals (``interval``), backward with linear
  functionals (``backward``), down to the box where they are minimised;
* what an operation does: to an interval (``interval.enclose``, ``elementwise``), to a functional if
  it is affine (``adjoint``), else through a relaxation (``linearise.relax``), which is one of lines
  (``lines``: ReLU), chords and tangents (``curves``, ``tangents``), ``products``, ``shares``
  (softmax), selections (``pooling``) or plain constants;
* what is free: α and β (``lines.Given``, ``variables``), and their ascent (``ascent``).

Two modules bound less than whole boxes: ``cuts`` the part where a linear function is at most zero,
``cutoffs`` the inputs whose margin is. ``slack`` tells where a bound loses most.

Bounds of neurons inside are found by ``intermediate``, for planes through what each neuron sees
(``locality``), as many at once as ``chunks`` allows. A new operation needs a rule in ``enclose``,
and to be more than constants to CROWN, one in ``adjoint`` or in ``linearise.reads`` and ``relax``.
``contract`` defines what goes in and out, and the signs.
"""

from verify_pipeline.bounds.intermediate.tighten import crown_activations, crown_intermediate
from verify_pipeline.bounds.interval.ibp import interval_bounds, interval_margins
from verify_pipeline.bounds.linear.crown import crown_margins, needed_places, relu_coefficients
from verify_pipeline.bounds.linear.halfspace_box import HalfspaceBox
from verify_pipeline.bounds.memory import functionals_that_fit, functionals_with_gradients
from verify_pipeline.bounds.optimise.alpha_beta import optimise, optimise_intermediate
from verify_pipeline.bounds.optimise.objective_cutoff import MarginProblem, lower_below_cutoff
from verify_pipeline.bounds.relaxations.relaxed_graph import RelaxedBounds
from verify_pipeline.bounds.relu_splits import clamp_to_splits
from verify_pipeline.bounds.types import (
    MarginBounds,
    MemoryBudget,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    Splits,
    StopRule,
    always,
)

__all__ = [
    "HalfspaceBox",
    "MarginBounds",
    "MarginProblem",
    "MemoryBudget",
    "Multipliers",
    "NodeBounds",
    "OptimiseSettings",
    "RelaxedBounds",
    "Splits",
    "StopRule",
    "always",
    "clamp_to_splits",
    "crown_activations",
    "crown_intermediate",
    "crown_margins",
    "functionals_that_fit",
    "functionals_with_gradients",
    "interval_bounds",
    "interval_margins",
    "lower_below_cutoff",
    "needed_places",
    "optimise",
    "optimise_intermediate",
    "relu_coefficients",
]
