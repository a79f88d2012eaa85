"""Claims that are nearly false: splits go on until linear programs decide, or there is no proof."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.onnx_networks import layers_file
from verify_checker import check, read_network, read_proof
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.onnx import Network, network_from_bytes
from verify_pipeline.proving.image import Prover, ProverSettings
from verify_pipeline.proving.proof_file import write_proof
from verify_pipeline.proving.root import ProofClaim, Unproved


def nearly_least(network: Network, rng: np.random.Generator) -> float:
    """About the least output of a network over [0, 1]^3; some input reaches it."""

    def outputs(points: np.ndarray) -> np.ndarray:
        return network.replay(torch.from_numpy(points.astype(np.float32)))[:, 0].numpy()

    points = rng.random((20_000, 3))
    best = points[outputs(points).argsort()[:10]]
    for radius in np.geomspace(0.1, 1e-6, 40):
        around = np.clip(best[:, None] + radius * rng.normal(size=(10, 60, 3)), 0, 1)
        around[:, 0] = best
        values = outputs(around.reshape(-1, 3)).reshape(10, 60)
        best = around[np.arange(10), values.argmin(1)]
    return float(outputs(best).min())


@pytest.mark.parametrize("seed", range(8))
def test_a_claim_is_proved_just_above_the_least_output_and_never_below(seed: int) -> None:
    rng = np.random.default_rng(seed)
    widths = (3, 7, 7, 1)
    layers: list[object] = []
    for n in range(3):
        weight = rng.normal(size=(widths[n + 1], widths[n])) * (2 / widths[n]) ** 0.5
        layers += [(weight, 0.3 * rng.normal(size=widths[n + 1])), "Relu"]
    data = layers_file(("n", 3), *layers[:-1])  # type: ignore[arg-type]
    network = network_from_bytes(data)
    least = nearly_least(network, rng)
    settings = ProverSettings(SearchSettings(), 20.0, 0)
    prover = Prover(read_network(data), network.graph, settings)

    def claim(slack: float) -> ProofClaim:
        ones = np.ones(3)
        return ProofClaim({}, 0 * ones, ones, ones[:1, None], np.array([slack - least]))

    proof = prover.proof(claim(0.01 * abs(least) + 1e-3))
    check(read_proof(write_proof(proof)), prover.network)
    with pytest.raises(Unproved):
        prover.proof(claim(-1e-3))
