"""Value objects of a ledger: runs, entries to write, records that were read."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from verify_pipeline import strict_json
from verify_pipeline.errors import LedgerError
from verify_pipeline.problem import (
    OF_TIME,
    TIED,
    Counterexample,
    Reason,
    StageResult,
    Status,
    Verdict,
)


@dataclass(frozen=True)
class Run:
    """The key of a run: two runs are the same iff all of these fields are equal.

    Attributes:
        network: SHA-256 of the network's file.
        data_set: name of the data set.
        split: of the data set.
        perturbation: the boxes' construction, e.g. ``linf 0.1``.
        specification: what must hold, e.g. ``margins``.
        settings: digest of the settings that decide what is tried on an image; how many seconds and
            how much memory it may take are not among them.
    """

    network: str
    data_set: str
    split: str
    perturbation: str
    specification: str
    settings: str


@dataclass(frozen=True)
class RunInfo:
    """A run's key with more information for readers.

    Attributes:
        run: the key.
        network_name: for people.
        epsilon: half-width of the boxes, None where they are no balls.
        settings: the settings as JSON.
        outputs: K of the network; None: unknown, as in ledgers of older versions.
        input_shape: ``*X`` of the images; None: unknown likewise.
        notes: what the network's exporter noted in the file, such as loss, α and seed; empty:
            nothing, or unknown likewise.
    """

    run: Run
    network_name: str
    epsilon: float | None
    settings: str
    outputs: int | None = None
    input_shape: tuple[int, ...] | None = None
    notes: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def arithmetic(self) -> str:
        """In which every evaluation is verified; empty: VERIFIED is about real numbers."""
        return str(_parsed(self.settings).get("arithmetic", ""))

    @property
    def settings_of_real_numbers(self) -> str:
        """The settings of the same run without an arithmetic, as JSON."""
        if not self.arithmetic:
            return self.settings
        kept = {k: v for k, v in _parsed(self.settings).items() if k != "arithmetic"}
        return json.dumps(kept, sort_keys=True)


def _parsed(settings: str) -> Mapping[str, object]:
    try:
        found = strict_json.parse(settings or "{}")
    except ValueError:  # of an older version
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, eq=False)
class Entry:
    """One verdict to be written.

    Attributes:
        index: the image's place in its data set.
        instance: digest of the instance's box and specification, see :func:`instance_digest`.
        label: the image's class; None where the specification is not about classes.
        verdict: the verdict with its evidence.
    """

    index: int
    instance: str
    label: int | None
    verdict: Verdict


@dataclass(frozen=True)
class Record:
    """One row as it was read, without the counterexample's tensors.

    Attributes:
        index: the image's place in its data set.
        instance: digest of the instance's box and specification.
        label: the image's class, if there is one.
        status: VERIFIED, FALSIFIED or UNKNOWN.
        reason: of an UNKNOWN.
        stage: the stage that decided it or tried last.
        bound: best lower bound of the least margin, if there is one.
        margin: the least margin at the counterexample, for FALSIFIED.
        seconds: charged to the image over all attempts.
        timeout: seconds that the last attempt was allowed.
        attempts: how often the image was tried.
        detail: more for a reader.
        versions: of the packages that decided it.
        decided_at: Unix time in seconds.
        stages: what each stage of the last attempt did; empty in ledgers of older versions.
        counterexample: short SHA-256 of its pixels, for FALSIFIED (16 hexadecimal digits).
    """

    index: int
    instance: str
    label: int | None
    status: Status
    reason: Reason | None
    stage: str
    bound: float | None
    margin: float | None
    seconds: float
    timeout: float
    attempts: int
    detail: str
    versions: str
    decided_at: float
    stages: tuple[StageResult, ...] = ()
    counterexample: str = ""

    @property
    def tied(self) -> bool:
        """Whether it is VERIFIED before the last layers only, while the file itself ties."""
        return self.status is Status.VERIFIED and TIED in self.detail


@dataclass(frozen=True)
class Attempt:
    """What a row says of its last attempt.

    Attributes:
        decided: whether it is not UNKNOWN.
        late: whether more time might decide it.
        timeout: seconds that it was allowed.
        number: how many attempts there were.
    """

    decided: bool
    late: bool
    timeout: float
    number: int

    @staticmethod
    def of(verdict: str, reason: str | None, timeout: float, number: int) -> Attempt:
        """The attempt that a row's columns name."""
        late = reason in {each.name for each in OF_TIME}
        return Attempt(verdict != Status.UNKNOWN.value, late, timeout, number)


def settings_digest(settings: str) -> str:
    """Short SHA-256 of a run's settings, in hexadecimal (16 digits)."""
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def exactly(value: float) -> str:
    """A number as text; numpy's scalars, whose repr names numpy, look like Python's."""
    return repr(value) if isinstance(value, int) else repr(float(value))


def instance_digest(*tensors: Tensor) -> str:
    """Short SHA-256 of an instance's limits, rows and offsets, in hexadecimal (32 digits)."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:32]


def input_digest(pixels: Tensor) -> str:
    """Short SHA-256 of a counterexample's pixels, in hexadecimal (16 digits)."""
    return hashlib.sha256(_bytes(pixels)).hexdigest()[:16]


FLOAT64_MARK = b"d"
"""Before the bytes of float64 numbers. Inputs and outputs are float32 but for files of type DOUBLE,
and a ledger's float32 numbers have no mark."""


@dataclass(frozen=True)
class PackedCounterexample:
    """A counterexample as SQLite stores it, in little-endian bytes.

    Attributes:
        input: like the output, and compressed.
        shape: of the input, numbers with commas.
        output: float32 as it is; float64 after :data:`FLOAT64_MARK`, which the odd length shows.
        margin: as in the counterexample.
    """

    input: bytes
    shape: str
    output: bytes
    margin: float


def pack(counterexample: Counterexample) -> PackedCounterexample:
    """A counterexample as bytes, without loss.

    Raises:
        ValueError: its input or its output is neither float32 nor float64.
    """
    return PackedCounterexample(
        zlib.compress(_bytes(counterexample.input)),
        ",".join(str(n) for n in counterexample.input.shape),
        _bytes(counterexample.output),
        counterexample.margin,
    )


def unpack(packed: PackedCounterexample) -> Counterexample:
    """The counterexample of its bytes.

    Raises:
        LedgerError: the bytes are damaged.
    """
    try:
        shape = tuple(int(n) for n in packed.shape.split(",") if n)
        point = _numbers(zlib.decompress(packed.input))
        if point.numel() != math.prod(shape):
            raise ValueError(f"{point.numel()} numbers for shape {shape}")
        return Counterexample(point.reshape(shape), _numbers(packed.output), float(packed.margin))
    except (ValueError, TypeError, zlib.error) as error:
        raise LedgerError(
            "counterexample in the ledger", expected="its values", got=f"damage: {error}"
        ) from None


def _numbers(raw: bytes) -> Tensor:
    if len(raw) % 4 == 1 and raw.startswith(FLOAT64_MARK):
        return _tensor(raw[1:], torch.float64)
    return _tensor(raw, torch.float32)


def _bytes(tensor: Tensor) -> bytes:
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"a replayed counterexample is float32 or float64, not {tensor.dtype}")
    array = tensor.detach().cpu().contiguous().numpy()
    raw = bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return FLOAT64_MARK + raw if tensor.dtype == torch.float64 else raw


def _tensor(raw: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(raw), dtype=dtype).clone()
