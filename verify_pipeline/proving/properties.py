"""Proofs of VNN-LIB properties: one for each case (box) of a property that is unsat.

A case has conjunctions of constraints that a counterexample meets. To deny one, one of its negated
constraints has to hold at each input: a group of rows.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch

from verify_checker import Refused, Rejected, check, read_network, read_proof
from verify_checker.operations import Network as CheckerNetwork
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.certify.settings import Plan
from verify_pipeline.interop.instance_list import Answer, Key, SetInstance
from verify_pipeline.interop.properties import Case
from verify_pipeline.interop.sets import Result, counterexample_name
from verify_pipeline.interop.text_files import read_network as read_graph
from verify_pipeline.interop.text_files import read_plain
from verify_pipeline.interop.vnnlib import read_vnnlib
from verify_pipeline.onnx import Network
from verify_pipeline.proving.image import Prover, ProverSettings
from verify_pipeline.proving.proof_file import write_proof
from verify_pipeline.proving.recorder import SUFFIX, Recorded, Recording
from verify_pipeline.proving.root import ProofClaim, Unproved


def record_properties(
    instances: Sequence[SetInstance],
    results: Mapping[Key, Result],
    plan: Callable[[SetInstance], Plan],
    folder: Path,
    told: Callable[[str], None] = lambda line: None,
) -> Recording:
    """Write a proof of each case of each property that is unsat, where there is none.

    Args:
        instances: of a set.
        results: what was decided.
        plan: how an instance was searched, and for how long.
        folder: for the proofs.
        told: is told of each property.

    Raises:
        DataError: the folder cannot be written.
    """
    found = []
    unsat = [one for one in instances if results[one.key].answer is Answer.UNSAT]
    for number, instance in enumerate(unsat):
        began = time.perf_counter()
        size, reason = 0, ""
        try:
            size = _record(instance, plan(instance), folder)
        except (Unproved, Refused, Rejected) as error:
            reason = str(error)
        except Exception as error:  # others may still have a proof
            reason = f"{type(error).__name__}: {error}"[:200]
        seconds = time.perf_counter() - began
        found.append(Recorded(number, size, reason, seconds))
        told(f"{_name(instance)}: {size} bytes, {seconds:.1f} s {reason}".rstrip())
    deployed = any(results[one.key].arithmetic for one in unsat)
    return Recording(folder, tuple(found), deployed)


def _name(instance: SetInstance) -> str:
    return counterexample_name(instance.onnx, instance.vnnlib).removesuffix(".counterexample")


def _record(instance: SetInstance, plan: Plan, folder: Path) -> int:
    """Write the proofs of a property's cases, all or none; their bytes in all."""
    data = read_plain(instance.onnx)
    digest = hashlib.sha256(data).hexdigest()
    network, graph = _read(instance.onnx, digest)
    write_whole(folder / f"{digest[:16]}.onnx", data)
    prover = Prover(network, graph.graph, ProverSettings.of(plan))
    cases = read_vnnlib(instance.vnnlib).cases
    about = {
        "network": digest,
        "onnx": instance.onnx.name,
        "property": instance.vnnlib.name,
        "sha256_of_property": hashlib.sha256(read_plain(instance.vnnlib)).hexdigest(),
        "specification": "vnnlib",
        "cases": len(cases),
    }
    paths = [folder / f"{_name(instance)}-{number:03d}{SUFFIX}" for number in range(len(cases))]
    made = {}
    for number, case in enumerate(cases):
        if not paths[number].is_file():
            claim = _claim({**about, "case": number}, case, graph)
            made[number] = write_proof(prover.proof(claim))
            check(read_proof(made[number]), network)
    for number, proof in made.items():
        write_whole(paths[number], proof)
    return sum(path.stat().st_size for path in paths)


@lru_cache(maxsize=1)
def _read(path: Path, digest: str) -> tuple[CheckerNetwork, Network]:
    return read_network(read_plain(path)), read_graph(path, False)


def _claim(about: dict[str, object], case: Case, network: Network) -> ProofClaim:
    """What denies each conjunction of a case over its box."""
    box = case.box(network.input_shape, network.input_dtype)
    denials = case.denials
    groups = torch.cat([torch.full((len(one),), n) for n, one in enumerate(denials)])
    alone = all(len(one) == 1 for one in denials)
    return ProofClaim(
        about,
        box.lower.flatten().numpy(),
        box.upper.flatten().numpy(),
        torch.cat([one.rows for one in denials]).double().numpy(),
        torch.cat([one.offsets for one in denials]).double().numpy(),
        None if alone else groups.numpy(),
    )
