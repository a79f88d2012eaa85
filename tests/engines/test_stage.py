"""The tool as certification's last stage: what it claims, what is replayed, what a ledger says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.onnx_networks import two_pixel_file, written_network
from verify_pipeline.certify import CertifySettings, Ledger, certify_set
from verify_pipeline.certify.preprocessing import Preprocessing
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.settings import asking_abcrown
from verify_pipeline.certify.tally import Summary
from verify_pipeline.data import ImageSet
from verify_pipeline.engines import Setup, Tool
from verify_pipeline.engines.job import can_be_asked, configuration
from verify_pipeline.errors import ConfigError
from verify_pipeline.onnx import Network, export_onnx, load_network, network_from_module
from verify_pipeline.problem import Reason, Specification, Status, Verdict
from verify_pipeline.reporting.render import as_markdown
from verify_pipeline.reporting.tables import verdict_table

FakeTool = Callable[[str], Tool]
SETTINGS = asking_abcrown(CertifySettings(epsilon=0.1, stages=("clean", "branch-and-bound")))


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """Class 0 iff x_0 >= x_1, of two pixels."""
    return written_network(tmp_path / "net.onnx", two_pixel_file(np.eye(2)))


def images(*pixels: tuple[float, float]) -> ImageSet:
    values = torch.tensor(pixels).reshape(len(pixels), 1, 1, 2)
    return ImageSet("pairs", "test", values, torch.zeros(len(pixels), dtype=torch.int64), 2)


def certified(
    tool: Tool, network: Network, chosen: ImageSet, folder: Path, ledger: Ledger
) -> Summary:
    setup = Setup(tool, folder / "runs")
    return certify_set(network, chosen, SETTINGS, ledger, abcrown=setup.stage)


def test_claims_and_replays(fake_tool: FakeTool, network: Network, tmp_path: Path) -> None:
    plan: dict[str, Any] = {
        "0": {"status": "safe-incomplete"},
        "1": {"status": "unsafe-pgd", "point": [0.35, 0.5]},
        "2": {"status": "unsafe-pgd", "point": [0.5, 0.5]},  # a true claim, of another box
        "3": {"status": "unsafe-bab", "point": [0.9, 0.1]},
        "4": {"status": "unsafe-bab"},
        "5": {"status": "unknown"},
        "6": {"exit": 3},
    }
    chosen = images(
        (0.9, 0.1), (0.45, 0.4), (0.9, 0.1), (0.9, 0.1), (0.9, 0.2), (0.9, 0.3), (0.9, 0.4)
    )
    with Ledger.in_memory() as ledger:
        found = certified(fake_tool(json.dumps(plan)), network, chosen, tmp_path, ledger).records
        assert [record.status for record in found] == [
            Status.VERIFIED,
            Status.FALSIFIED,
            *[Status.UNKNOWN] * 5,
        ]
        reasons = [record.reason for record in found[2:]]
        assert reasons == [Reason.NOT_REPLAYED] * 3 + [Reason.TIMEOUT, Reason.ERROR]
        assert found[0].detail == "alpha-beta-CROWN 9.9: safe-incomplete"
        assert found[1].margin is not None
        assert found[1].margin <= 0
        assert {record.stage for record in found} == {"abcrown"}


def test_a_point_outside_by_rounding_is_moved_into_the_box(
    fake_tool: FakeTool, network: Network, tmp_path: Path
) -> None:
    plan = {"0": {"status": "unsafe-pgd", "point": [0.34999, 0.50001]}}
    with Ledger.in_memory() as ledger:
        tool = fake_tool(json.dumps(plan))
        summary = certified(tool, network, images((0.45, 0.4)), tmp_path, ledger)
        (record,) = summary.records
        counterexample = ledger.counterexample(summary.info.run, record)
    x = counterexample.input.double().flatten()
    assert x[0] >= torch.tensor(0.45).double() - 0.1
    assert x[1] <= torch.tensor(0.4).double() + 0.1


def test_what_it_verifies_is_counted_apart(
    fake_tool: FakeTool, network: Network, tmp_path: Path
) -> None:
    plan = {"0": {"status": "safe"}, "1": {"status": "unknown"}}
    with Ledger.in_memory() as ledger:
        tool = fake_tool(json.dumps(plan))
        summary = certified(tool, network, images((0.9, 0.1), (0.9, 0.2)), tmp_path, ledger)
    assert (summary.tally.proved, summary.tally.claimed, summary.tally.undecided) == (0, 1, 1)
    (row,) = verdict_table([summary]).to_dict("records")
    assert (row["verified"], row["with_abcrown"]) == (0.0, 50.0)
    assert "on the word of α,β-CROWN alone" in as_markdown([summary], "command")


def test_it_reads_a_file_of_pixels(fake_tool: FakeTool, network: Network, tmp_path: Path) -> None:
    """Which holds the preprocessing; its boxes and points are of pixels, and so is the module."""
    tool = fake_tool(json.dumps({"0": {"status": "unsafe-pgd", "point": [0.4, 0.55]}}))
    setup = Setup(tool, tmp_path / "runs")
    question = Question(preprocessing=Preprocessing((0.5,), (0.25,)))
    chosen = images((0.5, 0.45))
    found = certify_set(network, chosen, SETTINGS, question=question, abcrown=setup.stage)
    assert [record.status for record in found.records] == [Status.FALSIFIED]
    rows = (tmp_path / "runs" / "0001" / "instances.csv").read_text(encoding="utf-8")
    read = load_network(Path(rows.split(",")[0]))
    assert read.path is not None
    assert read.path.parent == tmp_path / "runs" / "networks"
    pixels = chosen.pixels()
    assert torch.equal(read.replay(pixels), network.replay((pixels - 0.5) / 0.25))


def test_the_module_in_reserve_is_of_the_whole_network(fake_tool: FakeTool, tmp_path: Path) -> None:
    """With the softmax at its end, which our bounds leave out: outputs are compared."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.Softmax(1)).eval()
    export_onnx(module, tmp_path / "soft.onnx", (1, 1, 2), {})
    read = load_network(tmp_path / "soft.onnx")
    setup = Setup(fake_tool(json.dumps({"0": {"status": "safe"}})), tmp_path / "runs")
    pixels = torch.rand(1, 1, 1, 2)
    chosen = ImageSet("one", "test", pixels, read.replay(pixels).argmax(1), 3)
    certify_set(read, chosen, SETTINGS, abcrown=setup.stage)
    (written,) = (tmp_path / "runs").glob("modules/*/network.py")
    assert ".softmax(" in written.read_text(encoding="utf-8")


def test_a_network_in_memory_has_no_file_that_it_could_read(
    fake_tool: FakeTool, tmp_path: Path
) -> None:
    setup = Setup(fake_tool("{}"), tmp_path / "runs")
    network = network_from_module(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), (1, 1, 2))
    with pytest.raises(ConfigError, match="a network in a file"):
        certify_set(network, images((0.9, 0.1)), SETTINGS, abcrown=setup.stage)


def test_it_needs_the_file_that_it_reads(network: Network) -> None:
    with pytest.raises(ConfigError, match="--engine abcrown"):
        certify_set(network, images((0.9, 0.1)), SETTINGS)


def test_a_verdict_on_somebodys_word_is_never_anything_but_verified() -> None:
    assert Verdict(Status.VERIFIED, "abcrown", 1.0, claimed_by="tool").bound is None
    with pytest.raises(ValueError, match="without evidence"):
        Verdict(Status.VERIFIED, "ibp", 1.0)
    with pytest.raises(ValueError, match="on the word of tool"):
        Verdict(Status.UNKNOWN, "abcrown", 1.0, reason=Reason.TIMEOUT, claimed_by="tool")


@pytest.mark.parametrize(
    ("row", "offset", "known"),
    [
        ([1.0, -1.0, 0.0], 0.0, True),
        ([1.0, 0.0, 0.0], 2.5, True),
        ([1.0, -1.0, 0.0], 0.5, False),
        ([-1.0, 0.0, 0.0], 0.0, False),
        ([2.0, -1.0, 0.0], 0.0, False),
        ([1.0, 1.0, -1.0], 0.0, False),
    ],
)
def test_rows_that_its_reader_knows(row: list[float], offset: float, known: bool) -> None:
    spec = Specification(
        torch.tensor([[row]], dtype=torch.float64), torch.tensor([[offset]], dtype=torch.float64)
    )
    assert can_be_asked(spec) is known


def test_a_users_configuration_keeps_what_is_the_users(tmp_path: Path) -> None:
    text = """
general: {complete_verifier: mip, results_file: theirs.pkl, device: cuda}
data: {start: 3, end: 4, std: [1.0]}
model: {onnx_path: other.onnx, onnx_optimization_flags: [merge_bn]}
bab: {timeout: 7, branching: {method: babsr}}
"""
    made = configuration(text, tmp_path, "cpu")
    assert made["general"]["complete_verifier"] == "mip"
    assert made["general"]["results_file"] == str(tmp_path / "results.pkl")
    assert made["general"]["device"] == "cpu"
    assert made["data"] == {"std": [1.0]}
    assert made["model"].pop("onnx_loader") == 'Customized("load_network.py", "load")'
    assert made["model"] == {"onnx_optimization_flags": ["merge_bn"]}
    assert made["bab"] == {"branching": {"method": "babsr"}}
    split = "bab: {branching: {method: kfsb, input_split: {enable: true}}}"
    assert configuration(split, tmp_path, "cpu")["bab"]["branching"]["method"] == "sb"
    with pytest.raises(ConfigError):
        configuration("- a list", tmp_path, "cpu")
    with pytest.raises(ConfigError, match="a section"):
        configuration("general: 3", tmp_path, "cpu")
