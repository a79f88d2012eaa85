"""Checks of a network before it is bounded: finite weights, and agreement with its file."""

from __future__ import annotations

import torch

from verify_pipeline.bounds.forward_error import covering
from verify_pipeline.certify.boxes import sample_points
from verify_pipeline.certify.contract import Certifiable
from verify_pipeline.errors import ConfigError, NetworkError
from verify_pipeline.network.written import Written
from verify_pipeline.onnx.parity import check_at
from verify_pipeline.problem import Box

COMPARED = 4
"""Instances, spread over a run, in whose boxes graph and file are compared."""


def network_name(network: Certifiable) -> str:
    """The file's name without its ending; of a network without a file, the digest's beginning."""
    return network.digest[:12] if network.path is None else network.path.stem


def refuse_bad_weights(network: Certifiable) -> None:
    """Refuse a network that has no finite bounds anywhere.

    Raises:
        NetworkError: a weight is NaN or infinite.
    """
    if not network.graph.is_finite():
        raise NetworkError(
            f"network {network_name(network)}", expected="finite weights", got="NaN or infinity"
        )


def refuse_arithmetic(written: Written | None, name: str) -> None:
    """Refuse an arithmetic in which the file is not evaluated, since it rounds to a coarser type.

    Args:
        written: the file's own operations; None: they are not known.
        name: of the arithmetic; empty for real numbers.

    Raises:
        ConfigError: values of the file are in a half precision that lacks numbers of it.
    """
    if written is None or not name or name in (fit := covering(written)):
        return
    types = " and ".join(sorted(written.rounded_to))
    raise ConfigError(
        "arithmetic",
        expected=" or ".join(fit) or "none",
        got=f"{name}, for a file that computes in {types}",
        remedy=f"Its values are rounded to {types}, whatever it is evaluated in. Leave the option "
        "out for real numbers"
        + (f", or write --arithmetic {fit[0]}." if fit else ": no arithmetic has both types."),
    )


def compare_with_file(network: Certifiable, boxes: Box) -> None:
    """Compare a network's graph with onnxruntime in some boxes, unless it asks not to be compared.

    Args:
        network: of inputs ``N x *X``.
        boxes: float64, any number; :data:`COMPARED` of a run are enough.

    Raises:
        NetworkError: onnxruntime computes something else than the graph that is to be bounded.
    """
    if network.compared and len(boxes):
        points = sample_points(boxes, network.input_dtype)
        precision = torch.float32 if network.written is None else network.written.coarsest
        what = f"network {network_name(network)}"
        check_at(network.graph, network.replay, points, what, precision)
