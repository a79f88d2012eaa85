"""Sound bounds of a network's values over boxes, for many instances and domains at once.

Each room imports only from the rooms above it:

* ``interval/``: interval bound propagation. ``ibp`` walks the graph forward, ``elementwise`` bounds
  smooth functions, and ``maxima_as_relus`` decides which maxima can be written with ReLUs.
* ``relaxations/``: linear bounds of one nonlinear operation. ``relaxed_graph.relax`` selects the
  relaxation: ``relu``, ``smooth`` (chords and tangents), ``tangents`` (optimisable tangents),
  ``bilinear`` (products), ``softmax``, ``max_pool``, ``clipping``, or constants (``base``).
* ``linear/``: backward bound propagation. ``backward`` walks linear functionals from a node to the
  input, ``adjoint`` takes them through affine operations, and ``crown`` bounds margins.
  ``halfspace_box`` restricts a box to the part where a linear function is at most zero, and
  ``relaxation_gap`` measures how much each relaxation loses.
* ``intermediate/``: CROWN bounds of the neurons inside. ``needed_neurons`` selects them,
  ``neuron_batches`` lays them out, and ``receptive_field`` cuts out the part of a convolutional
  network that a neuron depends on.
* ``optimise/``: α-CROWN and β-CROWN (``alpha_beta``), projected ascent (``ascent``) on the values
  in ``variables`` and ``plane_positions``, and bounds where a margin is at most zero
  (``objective_cutoff``).

``types`` defines inputs, results and sign conventions, ``floating_point`` how far float64 rounds.
``relaxations/rounding`` bounds what rounding changes in a backward walk. ``relu_splits``,
``memory``, ``precision`` and ``broadcasting`` serve all rooms.

A new operation needs a rule in ``interval.ibp.enclose``. CROWN then bounds it by constants. For
linear bounds, an affine operation also needs a rule in ``linear.adjoint``, and a nonlinear
operation needs rules in ``relaxations.relaxed_graph``: ``reads`` and ``relax``.
"""

from verify_pipeline.bounds.intermediate.tighten import crown_activations, crown_intermediate
from verify_pipeline.bounds.interval.ibp import interval_bounds, interval_margins
from verify_pipeline.bounds.linear.crown import (
    crown_margins,
    late_margins,
    needed_places,
    relu_coefficients,
)
from verify_pipeline.bounds.linear.halfspace_box import HalfspaceBox
from verify_pipeline.bounds.memory import functionals_that_fit, functionals_with_gradients
from verify_pipeline.bounds.optimise.alpha_beta import optimise, optimise_intermediate
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
    "late_margins",
    "needed_places",
    "optimise",
    "optimise_intermediate",
    "relu_coefficients",
]
