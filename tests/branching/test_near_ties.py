"""Whether an image is decided must not hang on which of two equal neurons is split first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from verify_pipeline import data, onnx
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate import relu_choice
from verify_pipeline.branching.evaluate.relu_choice import best_candidate
from verify_pipeline.certify.run import certify_set
from verify_pipeline.certify.settings import CertifySettings

MODEL = Path(__file__).resolve().parents[2] / "models" / "mnist-0.1-conv-small-ibp.onnx"

FEW = SearchSettings(max_domains=100)


@pytest.mark.parametrize("seed", [3, 5, 6])
def test_noise_of_a_hundred_thousandth_does_not_decide(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    # For a dozen splits every candidate leaves one child where it was; of those that look alike,
    # some end the search within 40 domains, and others had it grow without an end.
    usual, generator = best_candidate, torch.Generator().manual_seed(seed)

    def noisy(lower: Tensor, columns: Tensor, before: Tensor) -> Tensor:
        noise = 1e-5 * torch.randn(lower.shape, generator=generator)
        return usual(lower - noise * before.view(-1, 1, 1), columns, before)

    monkeypatch.setattr(relu_choice, "best_candidate", noisy)
    found = certify_set(
        onnx.load_network(MODEL),
        data.load("mnist", "test", root=shared_data),
        CertifySettings(epsilon=0.1, indices="282:283", timeout=1000.0, search=FEW),
    )
    assert found.tally.verified == {"branch-and-bound": 1}
