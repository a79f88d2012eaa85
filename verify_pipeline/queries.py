"""Single questions to a network, tensors in and tensors out: bounds over boxes, verdicts on images.

A data set is certified by ``pipeline.certify``, which keeps a ledger; here nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.output_bounds import OutputBounds, output_bounds
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.records import Record, Run
from verify_pipeline.certify.run import certify_set
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.conversions import (
    ArrayLike,
    NetworkLike,
    boxes_of,
    choose_device,
    images_of,
    network_of,
    rows_of,
    settings_of,
    single_of,
    tensor_of,
)
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.problem import Box, Specification, Status, Verdict

MEMORY = 2048
"""MiB that a batch may take, about, where nothing else is said."""


def bounds(
    network: NetworkLike,
    boxes: Box | tuple[ArrayLike, ArrayLike],
    method: str = "crown",
    *,
    C: Specification | ArrayLike | None = None,
    device: str = "auto",
    memory: int = MEMORY,
) -> OutputBounds:
    """Sound bounds of a network's outputs, or of linear functions of them, over boxes of inputs.

    What auto_LiRPA's ``BoundedModule.compute_bounds`` computes, in float64 and in batches that fit
    into memory. A value that may be undefined in a box, or overflow float32, has infinite bounds.

    Args:
        network: from ``load_network`` or ``network_from_module``, the path of an ONNX file, or a
            torch module (which is converted at each call).
        boxes: ``N`` boxes, or a pair of their lower and upper limits, ``N x *X`` each; of any
            range. ``Box.around(images.double(), epsilon)`` is not rounded to float32.
        method: ``ibp`` (Gowal et al. 2018, arXiv:1810.12715); ``crown`` (Zhang et al. 2018,
            arXiv:1811.00866), with CROWN bounds of the neurons; ``alpha-crown`` (Xu et al. 2021,
            arXiv:2011.13824), with slopes optimised for each row and CROWN bounds of the neurons.
            Each is at least as tight as the one before.
        C: rows to bound instead of the outputs: ``S x K`` for all boxes, ``N x S x K``, or a
            ``Specification``, whose offsets are added. None: the K outputs.
        device: ``auto``, ``cpu``, ``cuda``, …
        memory: MiB that a batch may take, about.

    Returns:
        ``lower`` and ``upper``, ``N x K`` or ``N x S``, on the CPU.

    Raises:
        DataError: boxes or rows do not fit the network, are empty, or not finite.
        ConfigError: no such method or device, or too little memory.
        NetworkError: the network cannot be used, or its file computes something else.
    """
    if memory < 1:
        raise ConfigError("memory", expected="MiB, at least 1", got=str(memory))
    place, box = choose_device(device), boxes_of(boxes)
    shape = tuple(box.lower.shape[1:])
    made = network_of(network, shape)
    if shape != made.input_shape:
        raise DataError(
            "boxes",
            expected=f"limits N x *X with the network's input shape {made.input_shape}",
            got=f"shape {tuple(box.lower.shape)}",
            remedy="A single box needs a batch axis: lower.unsqueeze(0).",
        )
    spec = rows_of(C, len(box), made.outputs)
    found = output_bounds(made, box, spec, method, place, int(memory * 2**20))
    return OutputBounds(found.lower.cpu(), found.upper.cpu())


def verify(
    network: NetworkLike,
    image: ArrayLike,
    label: int,
    epsilon: float | CertifySettings,
    *,
    timeout: float | None = None,
    stages: Sequence[str] | None = None,
    question: Question | None = None,
    device: str = "auto",
) -> Verdict:
    """Decide whether an image keeps its class when each pixel changes by at most ε.

    The same cascade as ``certify``: VERIFIED from a float64 bound, FALSIFIED with a counterexample
    that onnxruntime replayed, or UNKNOWN with its reason. The detail of an image whose outputs tie
    in the file, behind a saturated sigmoid, says ``tied as deployed``.

    Args:
        network: from ``load_network`` or ``network_from_module``, the path of an ONNX file, or a
            torch module (which is converted at each call).
        image: ``C x H x W`` or ``D``, with a batch axis of 1 or without: bytes 0..255, or floats
            in [0, 1].
        label: the right class, in ``[0, K)``.
        epsilon: half-width of the box, in [0, 1]; or all settings, of which ``indices`` do not
            count.
        timeout: seconds; None: as the settings say.
        stages: such as ``("clean", "ibp", "crown")``; None: as the settings say.
        question: another box, specification or preprocessing.
        device: ``auto``, ``cpu``, ``cuda``, …

    Raises:
        DataError: the image or the label does not fit the network.
        ConfigError: a setting is not as it must be.
        NetworkError: the network cannot be used, or its file computes something else.
    """
    if tensor_of(label, "label").dim():
        raise DataError("label", expected="one integer", got=f"{label!r}")
    settings = settings_of(epsilon, timeout=timeout, stages=stages)
    (verdict,) = verify_batch(
        network, single_of(image), [label], settings, question=question, device=device
    )
    return verdict


def verify_batch(
    network: NetworkLike,
    images: ArrayLike,
    labels: ArrayLike,
    epsilon: float | CertifySettings,
    *,
    timeout: float | None = None,
    stages: Sequence[str] | None = None,
    question: Question | None = None,
    device: str = "auto",
) -> list[Verdict]:
    """As :func:`verify`, for several images at once, which is faster than one after the other.

    Args:
        network: as there.
        images: ``N x C x H x W`` or ``N x D``: bytes 0..255, or floats in [0, 1].
        labels: ``N`` integers in ``[0, K)``.
        epsilon: as there.
        timeout: seconds for each image; None: as the settings say.
        stages: as there.
        question: as there, about these images.
        device: as there.

    Returns:
        The verdicts, in the images' order.

    Raises:
        VerifyPipelineError: as there.
    """
    place = choose_device(device)
    settings = settings_of(epsilon, timeout=timeout, stages=stages, indices=":")
    pixels = tensor_of(images, "images")
    made = network_of(network, tuple(pixels.shape[1:]))
    given = images_of(pixels, labels, made.outputs)
    with Ledger.in_memory() as ledger:
        summary = certify_set(made, given, settings, ledger, device=place, question=question)
        if len(summary.records) < len(given):
            raise DataError(
                "targets",
                expected="other classes than the images' labels",
                got=f"{len(given) - len(summary.records)} images whose label is their target",
            )
        return [_verdict(ledger, summary.info.run, record) for record in summary.records]


def _verdict(ledger: Ledger, run: Run, record: Record) -> Verdict:
    """A row of a ledger with its evidence."""
    falsified = record.status is Status.FALSIFIED
    return Verdict(
        record.status,
        record.stage,
        record.seconds,
        bound=record.bound,
        counterexample=ledger.counterexample(run, record) if falsified else None,
        reason=record.reason,
        detail=record.detail,
    )
