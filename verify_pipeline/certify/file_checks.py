"""Checks of a network before it is bounded: finite weights, and agreement with its file."""

from __future__ import annotations

import platform

import torch
from torch import Tensor

from verify_pipeline.bounds.forward_error import covering, refusal, row_errors
from verify_pipeline.certify.boxes import sample_points
from verify_pipeline.certify.contract import Certifiable
from verify_pipeline.errors import ConfigError, NetworkError
from verify_pipeline.network.arithmetic import ARITHMETICS, Arithmetic
from verify_pipeline.network.ops import size
from verify_pipeline.network.written import Written
from verify_pipeline.onnx.parity import ONNXRUNTIME, check_at
from verify_pipeline.onnx.replay import runner_of
from verify_pipeline.problem import Box, Specification

COMPARED = 4
"""Instances, spread over a run, in whose boxes graph and file are compared."""


HALF_MACHINES = ("aarch64", "arm64")
"""Processors on which onnxruntime may add up float16 numbers in float16."""

SLACK = 2.0**-40
"""Rounding of the graph in float64, relative to its outputs; beside it, errors have room enough."""

LARGEST = 1 << 24
"""Derivatives of outputs by the elements of a value that are bounded at once, about."""


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
    """Compare a network's graph with its file in some boxes, unless it asks not to be compared.

    Args:
        network: of inputs ``N x *X``.
        boxes: float64, any number; :data:`COMPARED` of a run are enough.

    Raises:
        NetworkError: the file computes something else than the graph that is to be bounded.
    """
    if not network.compared or not len(boxes):
        return
    points, written = sample_points(boxes, network.input_dtype), network.written
    what, runner = f"network {network_name(network)}", runner_of(network.replay)
    precision = torch.float32 if written is None else written.coarsest
    check_at(network.graph, network.replay, points, what, precision, runner)
    arithmetic = evaluated_in(network)
    if written is not None and arithmetic is not None and not refusal(written, arithmetic):
        _refuse_beyond_errors(network, written, points, arithmetic)


def evaluated_in(network: Certifiable) -> Arithmetic | None:
    """The arithmetic in which a file of one half precision is run; None: another file.

    On the processors of most machines, onnxruntime computes each operation in float32. Those of
    :data:`HALF_MACHINES` have arithmetic in float16. ONNX's reference evaluator computes in numpy,
    which adds up numbers of the type. Both keep denormal numbers.
    """
    written = network.written
    if written is None or len(written.rounded_to) != 1:
        return None
    (name,) = written.rounded_to
    wide = (
        runner_of(network.replay) == ONNXRUNTIME and platform.machine().lower() not in HALF_MACHINES
    )
    return ARITHMETICS[f"mixed-{name}" if wide else name].gradual


@torch.no_grad()
def _refuse_beyond_errors(
    network: Certifiable, written: Written, points: Tensor, arithmetic: Arithmetic
) -> None:
    """Refuse a graph that differs from its file by more than the file's roundings explain."""
    given, graph = points.double(), written.graph
    count = graph.outputs
    each = Specification(
        torch.eye(count).double().expand(len(given), -1, -1),
        torch.zeros(len(given), count).double(),
    )
    room = len(given) * count * max(size(node.shape) for node in graph.nodes)
    enough = 0.0 if room <= LARGEST else torch.inf
    errors = row_errors(graph, Box(given, given), each, arithmetic, enough=enough)
    ours, theirs = network.graph(given), network.replay(points).double()
    difference = (theirs - ours).abs()
    within = difference <= errors + SLACK * ours.abs()  # not of NaN
    beyond = errors.isfinite() & ~within
    if bool(beyond.any()):
        raise NetworkError(
            f"network {network_name(network)}",
            expected=f"outputs of {runner_of(network.replay)} within the errors of "
            f"{arithmetic.name}",
            got=f"a difference of {float(difference[beyond].max()):.2g}, where at most "
            f"{float(errors[beyond].max()):.2g} is possible",
            remedy="Please report it. The option --no-parity-check leaves the comparison out.",
        )
