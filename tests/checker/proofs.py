"""Proofs of a small network that tests share, one of each kind."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from tests.onnx_networks import layers_file
from verify_checker import Network, Proof, check, read_network, read_proof, write_proof
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.proving.image import Prover, ProverSettings
from verify_pipeline.proving.root import ProofClaim

INPUTS, CLASSES = 4, 3


@dataclass(frozen=True, eq=False)
class Proved:
    """A proof and its network."""

    data: bytes
    network: Network
    proof: Proof

    def accepts(self, proof: Proof) -> bool:
        """Whether the checker accepts a proof, once it was written and read."""
        check(read_proof(write_proof(proof)), self.network)
        return True


@cache
def network_file() -> bytes:
    """A network of 4 inputs, 12 and 12 ReLUs, 3 classes."""
    rng = np.random.default_rng(5)
    widths = (INPUTS, 12, 12, CLASSES)
    layers: list[object] = []
    for n in range(3):
        weight = rng.normal(size=(widths[n + 1], widths[n])) * (2 / widths[n]) ** 0.5
        layers += [(weight, 0.3 * rng.normal(size=widths[n + 1])), "Relu"]
    return layers_file(("n", INPUTS), *layers[:-1])  # type: ignore[arg-type]


def margins(label: int) -> np.ndarray:
    """The rows of a class's margins."""
    eye = np.eye(CLASSES)
    return eye[label] - np.delete(eye, label, 0)


def claim(epsilon: float, seed: int = 0) -> ProofClaim:
    """That no change by at most ε changes the class of a random input of [0, 1]."""
    point = np.random.default_rng(seed).random(INPUTS)
    network = network_from_bytes(network_file())
    output = network.replay(torch.from_numpy(point[None]).float())
    label = int(output.argmax())
    about: dict[str, object] = {
        "network": hashlib.sha256(network_file()).hexdigest(),
        "perturbation": f"linf {epsilon!r}",
        "specification": "margins",
        "label": label,
        "index": seed,
    }
    lower, upper = np.maximum(point - epsilon, 0), np.minimum(point + epsilon, 1)
    return ProofClaim(about, lower, upper, margins(label), np.zeros(CLASSES - 1))


def prove(asked: ProofClaim, few_inputs: int = 0) -> Proved:
    """A proof by splits of ReLUs, or of inputs if ``few_inputs`` allows that."""
    network = read_network(network_file())
    settings = ProverSettings(SearchSettings(), 20.0, few_inputs)
    proof = Prover(network, network_from_bytes(network_file()).graph, settings).proof(asked)
    return Proved(network_file(), network, proof)


EPSILON = {"intervals": 0.03, "walks": 0.48, "slopes": 0.5, "relus": 0.9, "inputs": 0.9}
"""Over these boxes the class is proved by intervals, by walks with the usual lines, only with
optimised slopes, only by splits of ReLUs, and by splits of inputs."""

KINDS = tuple(EPSILON)


@cache
def by_kind(kind: str) -> Proved:
    """A proof of the kind."""
    return prove(claim(EPSILON[kind]), 16 if kind == "inputs" else 0)
