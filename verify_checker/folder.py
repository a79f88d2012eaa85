"""Section 7, continued: a folder of proofs, file by file.

A folder holds proofs, ``*.proof``, and the networks that they are about, ``*.onnx``, in it or in
folders below it. A network is known by the SHA-256 of its file alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from verify_checker.check import check
from verify_checker.instances import Key, key_of, refuted
from verify_checker.operations import Network
from verify_checker.problems import Refused, Rejected, reject
from verify_checker.proof import Proof, read_proof
from verify_checker.reader import read_network

CHECKED, REFUSED, REJECTED = "checked", "refused", "rejected"
LARGEST_PROOF = 1 << 30
RESULTS = "checked.json"


@dataclass(frozen=True)
class Result:
    """What became of one proof.

    Attributes:
        file: its path in the folder.
        sha256: of its bytes, so that a result is not taken for another file's.
        outcome: ``checked``, ``refused`` or ``rejected``.
        reason: why it is not checked.
        seconds: that it took.
        bytes: of the file.
        about: what it says that it is about.
        refuted: for each disjunct of the property that it names, whether it refutes it; empty: it
            was compared with no property.
    """

    file: str
    sha256: str
    outcome: str
    reason: str
    seconds: float
    bytes: int
    about: dict[str, object]
    refuted: Sequence[bool] = ()


Instances = Mapping[Key, Path]


def check_file(
    path: Path, name: str, networks: dict[str, Path], instances: Instances | None = None
) -> Result:
    """Check one proof. Whatever goes wrong, it does not pass."""
    began, data, broken = time.perf_counter(), b"", list[bool]()
    about: dict[str, object] = {}
    outcome, reason = CHECKED, ""
    try:
        reject(path.stat().st_size > LARGEST_PROOF, f"a file of {path.stat().st_size} bytes")
        data = path.read_bytes()
        proof = read_proof(data)
        about = proof.about
        check_margins(proof)
        check_ball(proof)
        check(proof, _network(proof, networks))
        broken = [] if instances is None else refuted(proof, instances)
    except Refused as error:
        outcome, reason = REFUSED, str(error)
    except (Rejected, OSError) as error:
        outcome, reason = REJECTED, str(error)
    except MemoryError:
        outcome, reason = REFUSED, "more memory than there is"
    except Exception as error:  # a proof that breaks the checker proves nothing
        outcome, reason = REJECTED, f"{type(error).__name__}: {error}"[:200]
    seconds = time.perf_counter() - began
    sha = hashlib.sha256(data).hexdigest()
    return Result(name, sha, outcome, reason, seconds, len(data), about, broken)


def check_margins(proof: Proof) -> None:
    """Where a proof says that it is about margins of a class, it claims all of those margins.

    Raises:
        Rejected: they are others.
    """
    label = proof.about.get("label")
    if proof.about.get("specification") != "margins":
        return
    outputs = proof.rows.shape[-1]
    if type(label) is not int or not 0 <= label < outputs or proof.rows.ndim != 2:
        raise Rejected(f"margins of class {label!r}, which is none")
    unit = np.eye(outputs)
    margins = unit[label] - np.delete(unit, label, 0)
    if not np.array_equal(proof.rows, margins) or np.any(proof.offsets != 0):
        raise Rejected(f"rows that are not the margins of class {label}")
    reject(not proof.claims_every_row, "margins of which one suffices")


def check_ball(proof: Proof) -> None:
    """Where a proof says that it is about all changes by at most ε in [0, 1], so is its box.

    The image is not known here. Each pair of limits has to be ``x − ε`` and ``x + ε``, up to their
    rounding, or to end at 0 or 1. ``recheck`` compares boxes with the images themselves.

    Raises:
        Rejected: the box is another one.
    """
    kind, _, text = str(proof.about.get("perturbation", "")).partition(" ")
    if kind != "linf":
        return
    try:
        epsilon = float(text)
    except ValueError:
        return  # something is done to the pixels first
    lower, upper, tiny = proof.lower, proof.upper, 1e-14
    width = upper - lower
    least = np.where((lower > 0) & (upper < 1), 2 * epsilon, np.minimum(epsilon, 1.0)) - tiny
    fits = (lower >= 0) & (upper <= 1) & (width >= least) & (width <= 2 * epsilon + tiny)
    reject(not fits.all(), f"a box that is not that of changes by at most {epsilon:g}")


@cache
def _network_of(path: Path, sha256: str) -> Network | Refused:
    data = path.read_bytes()
    reject(hashlib.sha256(data).hexdigest() != sha256, f"the network {path.name} has changed")
    try:
        return read_network(data)
    except Refused as error:
        return error


def _network(proof: Proof, networks: dict[str, Path]) -> Network:
    sha256 = proof.about.get("network")
    if not isinstance(sha256, str) or sha256 not in networks:
        raise Rejected(f"no network file with SHA-256 {str(sha256)[:16]}… is here")
    found = _network_of(networks[sha256], sha256)
    if isinstance(found, Refused):
        raise found
    return found


def networks_in(places: Iterable[Path]) -> dict[str, Path]:
    """ONNX files in folders, or named themselves, by their SHA-256."""
    found = {}
    for place in places:
        for path in sorted(place.rglob("*.onnx")) if place.is_dir() else [place]:
            if path.is_file():
                found[hashlib.sha256(path.read_bytes()).hexdigest()] = path
    return found


def check_folder(
    folder: Path, networks: Sequence[Path] = (), jobs: int = 1, instances: Instances | None = None
) -> Iterator[Result]:
    """Check all proofs of a folder, in the order of their names.

    Args:
        folder: with proofs, and with the networks unless ``networks`` has them.
        networks: ONNX files, or folders that hold some.
        jobs: processes.
        instances: whose properties the proofs have to show; None: they are not compared.
    """
    found = _checked(folder, networks, jobs, instances)
    yield from found if instances is None else _completed(list(found), instances)


def _checked(
    folder: Path, networks: Sequence[Path], jobs: int, instances: Instances | None
) -> Iterator[Result]:
    known = networks_in([folder, *networks])
    paths = sorted(folder.rglob("*.proof"))
    work = [(path, path.relative_to(folder).as_posix(), known, instances) for path in paths]
    if jobs == 1 or len(work) < 2:
        yield from (check_file(*each) for each in work)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(check_file, *zip(*work, strict=True), chunksize=4)


def _completed(results: Sequence[Result], instances: Instances) -> Iterator[Result]:
    """The results, in which proofs are rejected if theirs leave a disjunct of their property."""
    whole: dict[Key, NDArray[np.bool_]] = {}
    passed = [result for result in results if result.outcome == CHECKED]
    for result in passed:
        key = key_of(result.about)
        whole[key] = np.array(result.refuted) | whole.get(key, False)
    for result in results:
        key = key_of(result.about)
        if result.outcome == CHECKED and not whole[key].all():
            of = f"{(~whole[key]).sum()} of {len(whole[key])} disjuncts of {instances[key].name}"
            result = replace(result, outcome=REJECTED, reason=f"{of} are refuted by no proof")
        yield result


def write_results(folder: Path, results: Sequence[Result]) -> Path:
    """Keep results beside the proofs, in place of what stood there."""
    path = folder / RESULTS
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps([asdict(result) for result in results], indent=0))
    os.replace(temporary, path)
    return path


def summary(results: Sequence[Result], instances: Instances | None = None) -> str:
    """How many were checked, refused and rejected, why, what it took, and how many instances."""
    lines = []
    for outcome in (CHECKED, REFUSED, REJECTED):
        some = [result for result in results if result.outcome == outcome]
        lines.append(f"{outcome}: {len(some)}")
        reasons = Counter(result.reason for result in some if result.reason)
        lines += [f"  {count} × {reason}" for reason, count in reasons.most_common(20)]
    count = max(len(results), 1)
    seconds, size = sum(r.seconds for r in results), sum(r.bytes for r in results)
    lines.append(f"seconds: {seconds:.2f}, {seconds / count:.3g} a proof")
    lines.append(f"bytes: {size}, {size / count:.0f} a proof")
    if instances is not None:
        shown = {key_of(result.about) for result in results if result.outcome == CHECKED}
        lines.append(f"instances: {len(shown)} of {len(instances)} shown")
    return "\n".join(lines)
