"""Write a trained torch module as the one ONNX file that is certified from then on."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from verify_pipeline._version import __version__
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx.batch_norm import fold_batch_norms
from verify_pipeline.onnx.model_file import parse_model, signature
from verify_pipeline.onnx.network import Network, network_from_bytes
from verify_pipeline.onnx.parity import ROUNDINGS, TOLERANCE, relative_difference
from verify_pipeline.onnx.replay import Replayer

OPSETS = (13, 17)
"""Operator sets to write, tried in order: most tools read the first, the second knows more."""

RANDOM_INPUTS = 16
CHUNK = 256

FLOOR = 0.01
"""Least size of an output that its rounding is judged by, as a share of the greatest output's."""


@dataclass(frozen=True)
class ExportReport:
    """An exported file, and its difference from the module.

    Attributes:
        path: of the file.
        digest: SHA-256 of its bytes, in hexadecimal.
        inputs: number of inputs, random and real, at which file and module were compared.
        scale: greatest absolute output of the module at these.
        max_difference: greatest absolute difference of an output at these.
        relative_difference: the greatest difference relative to the scale of its own output.
    """

    path: Path
    digest: str
    inputs: int
    scale: float
    max_difference: float
    relative_difference: float


@dataclass(frozen=True)
class _Parity:
    """The fields of :class:`ExportReport` about outputs."""

    inputs: int
    scale: float
    max_difference: float
    relative_difference: float


def export_onnx(
    module: nn.Module,
    path: Path | str,
    input_shape: tuple[int, ...],
    metadata: Mapping[str, str],
    real_inputs: Tensor | None = None,
) -> ExportReport:
    """Write ``module``, in evaluation mode, as an ONNX file with a free batch axis.

    Batch normalisation is folded into the layer before it, if there is one. The same weights give
    the same bytes. The file is written only after onnxruntime has reproduced the module's outputs.

    Args:
        module: ``N x *X`` to ``N x K``; it is copied, not changed.
        path: of the file; its folder is made where it is missing.
        input_shape: ``*X``.
        metadata: notes to keep in the file, such as recipe and seed.
        real_inputs: ``N x *X``, compared besides random ones.

    Raises:
        NetworkError: a weight is NaN or infinite, torch cannot export the module, the file computes
            something else (an output differs by more than 1e-4 of its scale).
        DataError: the place cannot be written.
    """
    path = Path(path)
    data, parity = _checked_bytes(module, input_shape, metadata, real_inputs)
    report = ExportReport(path, hashlib.sha256(data).hexdigest(), **asdict(parity))
    write_whole(path, data)
    return report


def network_from_module(module: nn.Module, input_shape: tuple[int, ...]) -> Network:
    """The network that a torch module computes in evaluation mode, by way of ONNX.

    Args:
        module: ``N x *X`` to ``N x K``.
        input_shape: ``*X``.

    Raises:
        NetworkError: as :func:`export_onnx` and ``load_network`` do.
    """
    return network_from_bytes(_checked_bytes(module, input_shape, {}, None)[0])


@torch.no_grad()
def _checked_bytes(
    module: nn.Module,
    input_shape: tuple[int, ...],
    metadata: Mapping[str, str],
    real_inputs: Tensor | None,
) -> tuple[bytes, _Parity]:
    """The file's bytes, and their difference from the module."""
    module = copy.deepcopy(module).cpu().float().eval()
    _refuse_bad_weights(module)
    data = _to_onnx(module, input_shape, metadata)
    source = type(module).__name__
    replay = Replayer(data, signature(parse_model(data, source), source), source)
    if not replay.batched:
        raise NetworkError(
            source,
            expected="a module for batches of any size",
            got="one whose ONNX form has a fixed batch",
            remedy="Write its reshapes with x.shape[0], or use flatten(1).",
        )
    inputs = _random_inputs(input_shape)
    if real_inputs is not None:
        inputs = torch.cat([inputs, real_inputs.detach().cpu().float()])
    parity = _compare(module, replay, inputs)
    if not parity.relative_difference <= TOLERANCE:
        raise NetworkError(
            source,
            expected=f"an ONNX file whose outputs differ by at most {TOLERANCE} of each",
            got=f"a difference of {parity.relative_difference:.3g}",
            remedy="Does its forward pass depend on more than its input and its weights?",
        )
    return data, parity


def _refuse_bad_weights(module: nn.Module) -> None:
    for name, weight in module.state_dict().items():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise NetworkError(
                f"weight {name}",
                expected="finite numbers",
                got="NaN or infinity",
                remedy="The training diverged; lower its learning rate.",
            )


def _to_onnx(module: nn.Module, input_shape: tuple[int, ...], metadata: Mapping[str, str]) -> bytes:
    model = onnx.load_model_from_string(_torch_export(module, torch.zeros(1, *input_shape)))
    fold_batch_norms(model)
    notes = {"verify_pipeline": __version__, **metadata}
    onnx.helper.set_model_props(model, {key: notes[key] for key in sorted(notes)})
    return bytes(model.SerializeToString(deterministic=True))


def _torch_export(module: nn.Module, example: Tensor) -> bytes:
    """torch's own ONNX file, in the first operator set that knows all of the module."""
    reason: Exception | None = None
    for opset in OPSETS:
        try:
            with tempfile.TemporaryDirectory() as folder, _as_the_exporter_likes():
                path = Path(folder) / "network.onnx"
                torch.onnx.export(
                    module,
                    (example,),
                    path,
                    dynamo=False,
                    opset_version=opset,
                    input_names=["input"],
                    output_names=["output"],
                    dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
                )
                return path.read_bytes()
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            reason = error
    raise NetworkError(
        type(module).__name__,
        expected="a module that torch can export to ONNX",
        got=str(reason).strip().splitlines()[0],
    ) from reason


@contextlib.contextmanager
def _as_the_exporter_likes() -> Iterator[None]:
    """Export without warnings, and with attention in operations that the exporter supports."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            # It warns of its deprecation and of every traced shape; its file is compared with the
            # module afterwards.
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _random_inputs(input_shape: tuple[int, ...]) -> Tensor:
    """Half of them uniform in [0, 1], half normal."""
    generator = torch.Generator().manual_seed(0)
    half = RANDOM_INPUTS // 2
    uniform = torch.rand(half, *input_shape, generator=generator)
    return torch.cat([uniform, torch.randn(half, *input_shape, generator=generator)])


def _compare(module: nn.Module, replay: Replayer, inputs: Tensor) -> _Parity:
    """Module against file, at one input alone and at all of them in batches."""
    chunks = (inputs[:1], *inputs.split(CHUNK))
    expected = torch.cat([module(chunk).flatten(1) for chunk in chunks])
    found = torch.cat([replay(chunk) for chunk in chunks])
    return _Parity(
        inputs=len(inputs),
        scale=float(expected.abs().max()),
        max_difference=float((found - expected).abs().max()),
        relative_difference=relative_difference(found, expected, _rounding(expected)),
    )


def _rounding(expected: Tensor) -> Tensor:
    """What float32 may do to outputs ``N x K``, about, ``K``.

    Of each what makes :data:`TOLERANCE` of its own size pass, and never less than for a
    :data:`FLOOR` of the greatest: near zero it has the rounding of terms that cancelled.
    """
    size = expected.double().abs().amax(0)
    return TOLERANCE / ROUNDINGS * size.maximum(FLOOR * size.max())
