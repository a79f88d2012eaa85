"""Proofs about vision transformers: the zoo's, and those of VNN-COMP 2023."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from verify_checker import Network, Rejected, check, read_network, read_proof
from verify_checker.regions import enclose
from verify_checker.walk import Rows, lower_bounds
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.network import zoo
from verify_pipeline.onnx import export_onnx, load_network
from verify_pipeline.proving.image import Prover, ProverSettings
from verify_pipeline.proving.proof_file import write_proof
from verify_pipeline.proving.root import ProofClaim

SHAPE, CLASSES = (1, 8, 8), 3


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zoo's vit with 12 features, as a file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vit") / "vit.onnx"
    export_onnx(zoo.build("vit", SHAPE, CLASSES, (0.3,), (0.5,), width=0.25), path, SHAPE, {})
    return path


def claim_of(path: Path, epsilon: float) -> ProofClaim:
    """That no change by at most ε changes the class of a random image."""
    image = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    session = onnxruntime.InferenceSession(path.read_bytes())
    label = int(session.run(None, {"input": image[None]})[0].argmax())
    eye, flat = np.eye(CLASSES), image.ravel().astype(np.float64)
    rows = eye[label] - np.delete(eye, label, 0)
    return ProofClaim({}, flat - epsilon, flat + epsilon, rows, np.zeros(CLASSES - 1))


def prover_of(path: Path) -> Prover:
    """With 20 seconds for splits."""
    network, settings = read_network(path.read_bytes()), ProverSettings(SearchSettings(), 20.0, 0)
    return Prover(network, load_network(path).graph, settings)


@pytest.mark.parametrize("epsilon", [1e-5, 0.004])
def test_verdicts_of_the_zoo_are_proved(small: Path, epsilon: float) -> None:
    prover = prover_of(small)
    proof = prover.proof(claim_of(small, epsilon))
    check(read_proof(write_proof(proof)), prover.network)
    assert bool(proof.lemmas) == (epsilon > 1e-3)
    with pytest.raises(Rejected):  # the same support does not show more
        check(replace(proof, offsets=proof.offsets - 1.0), prover.network)
    if proof.lemmas:
        with pytest.raises(Rejected):
            check(replace(proof, lemmas=()), prover.network)


def agrees(network: Network, data: bytes, epsilon: float) -> None:
    """Check that onnxruntime's outputs lie within bounds over a box, which are finite."""
    rng, last = np.random.default_rng(2), len(network.nodes) - 1
    middle = rng.random(network.nodes[0].shape)
    lower, upper = (middle - epsilon)[None], (middle + epsilon)[None]
    regions, size = enclose(network, (lower, upper), {}), network.nodes[last].size
    signs = np.concatenate([np.eye(size), -np.eye(size)])
    bounds = lower_bounds(
        regions, Rows(last, np.zeros(2 * size, dtype=int), signs, np.zeros(2 * size))
    )
    assert np.isfinite(bounds).all()
    session = onnxruntime.InferenceSession(data)
    for _ in range(20):
        point = (lower + rng.random(lower.shape) * (upper - lower)).astype(np.float32)
        output = session.run(None, {session.get_inputs()[0].name: point})[0][0]
        assert (bounds <= signs @ output + 1e-4).all()


def test_outputs_of_the_zoo_lie_within_bounds(small: Path) -> None:
    for epsilon in (0.0, 1e-3, 0.01):
        agrees(read_network(small.read_bytes()), small.read_bytes(), epsilon)


def test_transformers_of_vnncomp_are_read(shared_data: Path) -> None:
    archive = shared_data / "vnncomp" / "vnncomp_2023_vit.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not there")
    found = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".onnx") and (file := tar.extractfile(member)) is not None:
                data = file.read()
                agrees(read_network(data), data, 1e-6)
                found += 1
    assert found == 2
