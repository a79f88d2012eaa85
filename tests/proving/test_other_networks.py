"""Proofs about networks with other operations than dense layers and ReLUs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.checker.test_reader import residual
from tests.onnx_networks import layers_file
from verify_checker import check, read_network, read_proof
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.proving.image import Prover, ProverSettings
from verify_pipeline.proving.proof_file import write_proof
from verify_pipeline.proving.root import ProofClaim, Unproved


def dense(function: str) -> bytes:
    """Three dense layers with a function between them."""
    rng = np.random.default_rng(11)
    first = (rng.normal(size=(8, 4)), rng.normal(size=8))
    second = (0.5 * rng.normal(size=(8, 8)), rng.normal(size=8))
    return layers_file(("n", 4), first, function, second, function, (rng.normal(size=(3, 8)),))


def claim_around(data: bytes, radius: float, slack: float) -> tuple[Prover, ProofClaim]:
    """That all outputs stay above their values at a point, less ``slack``."""
    network, checked = network_from_bytes(data), read_network(data)
    shape = network.input_shape
    point = np.random.default_rng(2).random(shape).astype(np.float32)
    outputs = network.replay(torch.from_numpy(point[None]))[0].double().numpy()
    flat = point.ravel().astype(np.float64)
    eye = np.eye(len(outputs))
    asked = ProofClaim({}, flat - radius, flat + radius, eye, slack - outputs)
    return Prover(checked, network.graph, ProverSettings(SearchSettings(), 5.0, 0)), asked


@pytest.mark.parametrize("function", ["Sigmoid", "Tanh", "LeakyRelu", "Elu", "Softplus"])
def test_small_boxes_are_proved(function: str) -> None:
    prover, asked = claim_around(dense(function), 1e-3, 0.05)
    proof = prover.proof(asked)
    check(read_proof(write_proof(proof)), prover.network)
    prover, false = claim_around(dense(function), 1e-3, -1e-4)
    with pytest.raises(Unproved):
        prover.proof(false)


def test_a_residual_network_with_normalisation_and_pooling_is_proved() -> None:
    prover, asked = claim_around(residual(), 1e-3, 1.0)
    proof = prover.proof(asked)
    check(read_proof(write_proof(proof)), prover.network)


def test_wide_boxes_of_smooth_networks_say_why_there_is_no_proof() -> None:
    prover, asked = claim_around(dense("Tanh"), 0.3, 0.8)
    with pytest.raises(Unproved, match="leaky ReLU only, of which"):
        prover.proof(asked)
