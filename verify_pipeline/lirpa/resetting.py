"""Release 0.3's reset of a network's nodes before each pass, without what makes it slow.

A training step resets the nodes in each pass. Attributes of a torch module are set and deleted
through its checks for parameters and buffers, which took about a tenth of the host's time. Here
they are changed where they lie.
"""

from __future__ import annotations

from typing import Any

VALUES = ("linear", "forward_value")
BOUNDS = ("lower", "upper", "interval", "d", "lA", "lower_d")
"""What a node knows of its last input: values, and bounds."""

FLAGS = ("zero_backward_coeffs_l", "zero_backward_coeffs_u", "zero_lA_mtx", "zero_uA_mtx")
"""What a node knows of the last backward bound."""


def reset_quickly(bounded: Any) -> None:
    """Replace the reset of one bounded module; with given bounds, its own is used.

    Args:
        bounded: auto_LiRPA's ``BoundedModule``.
    """
    own = bounded._clear_and_set_new

    def reset(
        intermediate_layer_bounds: Any,
        clear_forward_only: bool = False,
        reset_perturbed_nodes: bool = True,
    ) -> None:
        if intermediate_layer_bounds is not None:
            own(intermediate_layer_bounds, clear_forward_only, reset_perturbed_nodes)
            return
        forgotten = VALUES if clear_forward_only else (*VALUES, *BOUNDS)
        for node in bounded._modules.values():
            _forget(node, forgotten)
            fields = vars(node)
            if reset_perturbed_nodes and fields.get("perturbation") is None:
                fields["perturbed"] = False
            node.clear()

    bounded._clear_and_set_new = reset


def _forget(node: Any, names: tuple[str, ...]) -> None:
    fields = vars(node)
    for name in names:
        if name in fields:
            del fields[name]
        elif name in node._parameters or name in node._buffers:
            delattr(node, name)  # of a node that is a parameter itself
    if "patch_size" in fields:
        fields["patch_size"] = {}
    fields.update(dict.fromkeys(FLAGS, False))
