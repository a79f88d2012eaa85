"""What cannot be bounded is UNKNOWN with the reason; nothing is raised, and the rest goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.onnx_networks import dense_network
from verify_pipeline.certify import CertifySettings, certify_set
from verify_pipeline.certify.stages import crown as crown_module
from verify_pipeline.data import ImageSet
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Op
from verify_pipeline.onnx import Network
from verify_pipeline.problem import Reason, Status


@dataclass(frozen=True, eq=False)
class Unheard(Op):
    """An operation that no bound knows."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + 0


@pytest.fixture(scope="module")
def network() -> Network:
    return dense_network(0, 20, 16, 3)


@pytest.fixture(scope="module")
def images(network: Network) -> ImageSet:
    pixels = torch.rand(40, 20, generator=torch.Generator().manual_seed(1))
    labels = network.replay(pixels).argmax(1)
    labels[::10] = (labels[::10] + 1) % 3
    return ImageSet("toy", "test", pixels, labels, 3)


@pytest.mark.parametrize("few", [False, True])
def test_an_unknown_operation_leaves_images_unknown(
    network: Network, images: ImageSet, few: bool
) -> None:
    nodes = network.graph.nodes
    graph = Graph((*nodes, Node("unheard", Unheard(), (len(nodes) - 1,), (3,))))
    settings = CertifySettings(epsilon=0.0 if few else 0.02, timeout=20.0)
    found = certify_set(replace(network, graph=graph), images, settings)
    kinds = [record.status for record in found.records]
    assert kinds.count(Status.FALSIFIED) >= 4
    for record in found.records:
        if record.index % 10 == 0:
            assert (record.status, record.stage) == (Status.FALSIFIED, "clean")
        elif record.status is Status.UNKNOWN:
            assert record.reason is Reason.UNSUPPORTED
            assert "Unheard" in record.detail
            assert record.stage == "branch-and-bound"  # the last that was asked
    assert Status.VERIFIED not in kinds


def test_a_bound_that_raises_in_the_middle_costs_its_own_images_only(
    network: Network, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = CertifySettings(epsilon=0.05, timeout=20.0, batch=4, stages=("clean", "crown"))
    expected = certify_set(network, images, settings)
    calls: list[int] = []
    usual: Any = crown_module.root_bounds  # type: ignore[attr-defined]

    def breaks(*arguments: Any) -> Any:
        calls.append(len(arguments[1]))
        if len(calls) == 3:
            raise RuntimeError("no bound today")
        return usual(*arguments)

    monkeypatch.setattr(crown_module, "root_bounds", breaks)
    found = certify_set(network, images, settings)
    assert calls == [4] * 9
    broken = [r for r in found.records if r.reason is Reason.ERROR]
    assert len(broken) == 4
    assert {r.detail for r in broken} == {"crown: RuntimeError: no bound today"}
    others = {r.index for r in found.records} - {r.index for r in broken}
    for one, other in zip(found.records, expected.records, strict=True):
        if one.index in others:
            assert (one.status, one.bound) == (other.status, other.bound)
