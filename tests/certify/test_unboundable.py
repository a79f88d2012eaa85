"""What cannot be bounded is UNKNOWN with the reason; nothing is raised, and the rest goes on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.onnx_networks import dense_network
from verify_pipeline.certify import CertifySettings, certify_set
from verify_pipeline.certify.stages import crown as crown_module
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import DependencyError
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Op
from verify_pipeline.onnx import Network
from verify_pipeline.problem import Box, Reason, Specification, Status


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


SETTINGS = CertifySettings(epsilon=0.05, timeout=20.0, batch=8, stages=("clean", "crown"))


@pytest.mark.parametrize("at", [[13], [1, 2], [9, 33, 38]])
def test_an_exception_in_the_middle_of_a_batch_costs_its_own_images_only(
    network: Network,
    images: ImageSet,
    at: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = certify_set(network, images, SETTINGS)
    usual: Any = crown_module.root_bounds  # type: ignore[attr-defined]
    centers = images.pixels(slice(0, 40)).double()[at]

    def breaks(*arguments: Any) -> Any:
        box = arguments[1].box
        held = [((box.lower <= x) & (x <= box.upper)).flatten(1).all(1).any() for x in centers]
        if any(held):
            raise RuntimeError("no bound today")
        return usual(*arguments)

    monkeypatch.setattr(crown_module, "root_bounds", breaks)
    ledger = tmp_path / "ledger.sqlite"
    found = certify_set(network, images, SETTINGS, ledger)
    named = "crown: RuntimeError: no bound today (traceback: ledger.sqlite.tracebacks.txt)"
    for one, other in zip(found.records, expected.records, strict=True):
        if one.index in at:
            assert (one.status, one.reason, one.detail) == (Status.UNKNOWN, Reason.ERROR, named)
        else:
            assert (one.status, one.stage) == (other.status, other.stage)
            if other.bound is not None:
                assert one.bound == pytest.approx(other.bound, rel=1e-9)
    text = (tmp_path / "ledger.sqlite.tracebacks.txt").read_text(encoding="utf-8")
    assert re.findall(r"^image (\d+), stage crown$", text, re.MULTILINE) == [str(i) for i in at]
    assert text.count("in breaks\n") == text.count("RuntimeError: no bound today\n") == len(at)


def test_tracebacks_that_cannot_be_kept_stop_nothing(
    network: Network, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*arguments: Any) -> Any:
        raise RuntimeError("no bound today")

    monkeypatch.setattr(crown_module, "root_bounds", breaks)
    (tmp_path / "ledger.sqlite.tracebacks.txt").mkdir()
    found = certify_set(network, images, SETTINGS, tmp_path / "ledger.sqlite")
    open_ = [record for record in found.records if record.status is Status.UNKNOWN]
    assert len(open_) == 36
    assert {record.detail for record in open_} == {"crown: RuntimeError: no bound today"}


def test_an_error_of_files_is_not_tried_image_by_image(
    network: Network, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def breaks(*arguments: Any) -> Any:
        calls.append(len(arguments[1]))
        raise DependencyError("tool", got="none")

    monkeypatch.setattr(crown_module, "root_bounds", breaks)
    found = certify_set(network, images, SETTINGS)
    assert calls == [8, 8, 8, 8, 4]
    assert sum(record.reason is Reason.ERROR for record in found.records) == 36


def test_nan_in_the_middle_of_a_batch_costs_its_own_image_only(
    network: Network, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crown_module._Margins, "improve", lambda self, *_, **__: self.open)
    expected = certify_set(network, images, SETTINGS)
    usual: Any = crown_module.interval_margins  # type: ignore[attr-defined]
    center = images.pixels(slice(13, 14)).double()

    def spoils(graph: Graph, box: Box, spec: Specification) -> Tensor:
        at = ((box.lower <= center) & (center <= box.upper)).flatten(1).all(1)
        return torch.where(at.unsqueeze(1), torch.nan, usual(graph, box, spec))

    monkeypatch.setattr(crown_module, "interval_margins", spoils)
    found = certify_set(network, images, SETTINGS)
    for one, other in zip(found.records, expected.records, strict=True):
        if one.index == 13:
            assert (one.status, one.reason) == (Status.UNKNOWN, Reason.NOT_FINITE)
        else:
            assert (one.status, one.bound) == (other.status, other.bound)
