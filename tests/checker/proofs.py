"""Proofs of two small networks that tests share, one of each kind."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from tests.onnx_networks import layers_file, node, onnx_file
from verify_checker import Network, Proof, check, read_network, read_proof
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.proving.aligned import Aligned
from verify_pipeline.proving.cell_tree import prove_by_cells
from verify_pipeline.proving.image import Prover, ProverSettings
from verify_pipeline.proving.proof_file import write_proof
from verify_pipeline.proving.root import ProofClaim, Root

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


@cache
def attention_file() -> bytes:
    """A network of 4 inputs, one block of attention over 3 tokens of 4 features, 3 classes."""
    rng = np.random.default_rng(3)

    def drawn(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / shape[0] ** 0.5).astype(np.float32)

    shapes = {"first": (INPUTS, 12), "query": (4, 4), "key": (4, 4), "value": (4, 4)}
    shapes |= {"wide": (4, 8), "narrow": (8, 4), "last": (12, CLASSES)}
    weights: dict[str, np.ndarray] = {name: drawn(*shape) for name, shape in shapes.items()}
    weights["root"] = np.float32(0.5)
    weights["tokens"], weights["flat"] = np.array([0, 3, 4]), np.array([0, 12])
    nodes = [
        node("Gemm", "x", "first", "h"),
        node("Reshape", "h", "tokens", "t"),
        node("MatMul", "t", "query", "q"),
        node("MatMul", "t", "key", "k"),
        node("MatMul", "t", "value", "v"),
        node("Transpose", "k", "kt", perm=[0, 2, 1]),
        node("MatMul", "q", "kt", "s"),
        node("Mul", "s", "root", "scores"),
        node("Softmax", "scores", "p", axis=-1),
        node("MatMul", "p", "v", "mixed"),
        node("Add", "t", "mixed", "u"),
        node("MatMul", "u", "wide", "w"),
        node("Relu", "w", "r"),
        node("MatMul", "r", "narrow", "z"),
        node("Add", "u", "z", "out"),
        node("Reshape", "out", "flat", "f"),
        node("Gemm", "f", "last", "y"),
    ]
    return onnx_file(nodes, ("n", INPUTS), weights)


def margins(label: int) -> np.ndarray:
    """The rows of a class's margins."""
    eye = np.eye(CLASSES)
    return eye[label] - np.delete(eye, label, 0)


def claim(epsilon: float, seed: int = 0, data: bytes | None = None) -> ProofClaim:
    """That no change by at most ε changes the class of a random input of [0, 1]."""
    point = np.random.default_rng(seed).random(INPUTS)
    data = network_file() if data is None else data
    network = network_from_bytes(data)
    output = network.replay(torch.from_numpy(point[None]).float())
    label = int(output.argmax())
    about: dict[str, object] = {
        "network": hashlib.sha256(data).hexdigest(),
        "perturbation": f"linf {epsilon!r}",
        "specification": "margins",
        "label": label,
        "index": seed,
    }
    lower, upper = np.maximum(point - epsilon, 0), np.minimum(point + epsilon, 1)
    return ProofClaim(about, lower, upper, margins(label), np.zeros(CLASSES - 1))


def prove(asked: ProofClaim, few_inputs: int = 0, data: bytes | None = None) -> Proved:
    """A proof by splits of ReLUs, or of inputs if ``few_inputs`` allows that."""
    data = network_file() if data is None else data
    network = read_network(data)
    settings = ProverSettings(SearchSettings(), 20.0, few_inputs)
    proof = Prover(network, network_from_bytes(data).graph, settings).proof(asked)
    return Proved(data, network, proof)


def prove_in_cells(asked: ProofClaim, enough: int) -> Proved:
    """A proof by early splits."""
    data = network_file()
    network = read_network(data)
    root = Root.of(network, asked)
    root.add_lemmas()
    aligned = Aligned.of(network_from_bytes(data).graph, root)
    prove_by_cells(aligned, root, SearchSettings(), 20.0, enough=enough)
    return Proved(data, network, root.proof())


EPSILON = {"intervals": 0.03, "walks": 0.48, "slopes": 0.5, "relus": 0.9, "inputs": 0.9}
"""Over these boxes the class is proved by intervals, by walks with the usual lines, only with
optimised slopes, only by splits of ReLUs, and by splits of inputs."""

ATTENTION = {"attention": 0.1, "attention, relus": 0.15, "attention, inputs": 0.15}
"""The same for the network with attention: by walks, by splits of ReLUs, by splits of inputs."""

CELLS = 0.65
"""Over this box, by one early split and by splits of ReLUs in both of its cells."""

KINDS = (*EPSILON, *ATTENTION, "cells")


@cache
def by_kind(kind: str) -> Proved:
    """A proof of the kind."""
    if kind == "cells":
        return prove_in_cells(claim(CELLS), enough=2)
    few = 16 if kind.endswith("inputs") else 0
    if kind in ATTENTION:
        return prove(claim(ATTENTION[kind], 3, attention_file()), few, attention_file())
    return prove(claim(EPSILON[kind]), few)
