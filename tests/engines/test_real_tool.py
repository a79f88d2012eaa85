"""The real α,β-CROWN, where there is one: on small networks whose answers are known."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline import api
from verify_pipeline.branching import SearchSettings
from verify_pipeline.certify import CertifySettings, certify_set
from verify_pipeline.certify.preprocessing import prepare
from verify_pipeline.certify.settings import SEARCH_FOLDER
from verify_pipeline.data import ImageSet
from verify_pipeline.engines import Engine, Setup, Tool, ToolClaim, ToolQuestion, find_tool
from verify_pipeline.engines.comparison import Agreement, counts
from verify_pipeline.engines.crosscheck import Job, crosscheck_images
from verify_pipeline.engines.tool import HOME_VARIABLE
from verify_pipeline.interop.writer import vnnlib_text
from verify_pipeline.onnx import Network, export_onnx, load_network
from verify_pipeline.problem import Box, Specification, Status

CONFIGS = sorted(path.stem for path in SEARCH_FOLDER.glob("*.yaml"))


@pytest.fixture(scope="module")
def tool() -> Tool:
    if not os.environ.get(HOME_VARIABLE):
        pytest.skip(
            f"α,β-CROWN was not run: let {HOME_VARIABLE} name a checkout of it (and "
            "ABCROWN_PYTHON its Python) to run these tests"
        )
    return find_tool()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A small convolutional network on 1 x 6 x 6, far from certain of anything."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    export_onnx(module.eval(), path, (1, 6, 6), {})
    return load_network(path)


def pixels(count: int) -> Tensor:
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def labels(network: Network, x: Tensor) -> Tensor:
    return network.replay(x).argmax(1)


def questions(network: Network, count: int, epsilon: float, wrong: bool) -> list[ToolQuestion]:
    """About the classes that the network gives, or about others."""
    assert network.path is not None
    x = pixels(count)
    wanted = (labels(network, x) + int(wrong)) % 3
    box, spec = Box.around(x, epsilon), Specification.margins(wanted, 3)
    return [
        ToolQuestion(network.path, vnnlib_text(box[n : n + 1], spec[n : n + 1]), 20.0)
        for n in range(count)
    ]


def test_one_process_says_safe_and_unsafe(tool: Tool, network: Network, tmp_path: Path) -> None:
    asked = questions(network, 2, 0.001, wrong=False) + questions(network, 2, 0.001, wrong=True)
    config = (SEARCH_FOLDER / "default.yaml").read_text(encoding="utf-8")
    answers = list(Engine(tool, config, tmp_path / "runs").ask(asked))
    assert [answer.claim for answer in answers] == [ToolClaim.SAFE] * 2 + [ToolClaim.UNSAFE] * 2
    assert all(answer.point is not None for answer in answers[2:])
    assert len(list((tmp_path / "runs").glob("0*"))) == 1


@pytest.mark.parametrize("config", CONFIGS)
def test_every_configuration_that_comes_with_the_package_runs(
    tool: Tool, network: Network, tmp_path: Path, config: str
) -> None:
    text = (SEARCH_FOLDER / f"{config}.yaml").read_text(encoding="utf-8")
    (answer,) = Engine(tool, text, tmp_path / "runs").ask(questions(network, 1, 0.001, wrong=False))
    assert answer.claim is ToolClaim.SAFE, answer.detail


def test_a_network_file_that_it_cannot_read_is_unknown(tool: Tool, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    text = vnnlib_text(
        Box(torch.zeros(1, 2), torch.ones(1, 2)), Specification.margins(torch.tensor([0]), 2)
    )
    (answer,) = Engine(tool, "general: {}\n", tmp_path / "runs").ask(
        [ToolQuestion(broken, text, 5.0)]
    )
    assert answer.claim is ToolClaim.OPEN
    assert "log: " in answer.detail


def test_both_engines_agree_on_open_images(tool: Tool, network: Network, tmp_path: Path) -> None:
    x = pixels(12)
    chosen = ImageSet("noise", "test", x, labels(network, x), 3)
    settings = CertifySettings(
        epsilon=0.06,
        stages=("clean", "crown", "branch-and-bound"),
        search=SearchSettings(),
        timeout=20.0,
    )
    job = Job(network, chosen, settings, tmp_path / "ledger.sqlite")
    setup = Setup(tool, tmp_path / "runs")
    pairs = crosscheck_images(job, setup, limit=4)
    assert pairs
    assert counts(pairs)[Agreement.CONTRADICT] == 0
    assert counts(pairs)[Agreement.AGREE] >= 1
    again = crosscheck_images(job, setup, limit=4)
    assert [pair.abcrown.seconds for pair in again] == [pair.abcrown.seconds for pair in pairs]
    assert len(list((tmp_path / "runs").glob("0*"))) == 1


def test_it_decides_as_the_last_stage(tool: Tool, network: Network, tmp_path: Path) -> None:
    assert network.path is not None
    x = pixels(3)
    chosen = ImageSet("noise", "test", x, labels(network, x), 3)
    settings = CertifySettings(epsilon=0.001, stages=("clean", "abcrown"), timeout=20.0)
    asking = Setup(tool, tmp_path / "runs").stage
    found = certify_set(network, chosen, settings, abcrown=asking)
    assert {record.status for record in found.records} == {Status.VERIFIED}
    assert (found.tally.proved, found.tally.claimed) == (0, 3)


def test_a_network_that_its_converter_may_get_wrong_is_read_aright(
    tool: Tool, tmp_path: Path
) -> None:
    """Batch normalisation behind a linear layer: some converters compute something else."""
    torch.manual_seed(0)
    normalised = nn.BatchNorm1d(8)
    nn.init.uniform_(normalised.weight, 0.5, 2.0)
    normalised.running_mean = torch.rand(8)
    normalised.running_var = torch.rand(8) + 0.1
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), normalised, nn.ReLU(), nn.Linear(8, 3))
    path = tmp_path / "net.onnx"
    export_onnx(module.eval(), path, (1, 6, 6), {})
    read = load_network(path)
    x = pixels(4)
    chosen = ImageSet("noise", "test", x, labels(read, x), 3)
    settings = CertifySettings(epsilon=0.001, stages=("clean", "abcrown"), timeout=20.0)
    asking = Setup(tool, tmp_path / "runs").stage
    found = certify_set(read, chosen, settings, abcrown=asking)
    assert {record.status for record in found.records} == {Status.VERIFIED}


@pytest.mark.parametrize("last", [False, True])
def test_it_decides_behind_a_preprocessing(tool: Tool, tmp_path: Path, last: bool) -> None:
    """Normalised pixels, and a network that takes its channels last."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.convolution = nn.Conv2d(2, 3, 3)
            self.linear = nn.Linear(3 * 4 * 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x.permute(0, 3, 1, 2) if last else x
            return torch.as_tensor(self.linear(self.convolution(x).relu().flatten(1)))

    path = tmp_path / "net.onnx"
    export_onnx(Last().eval(), path, (6, 6, 2) if last else (2, 6, 6), {})
    read = load_network(path)
    question = api.Question(preprocessing=api.Preprocessing((0.4, 0.5), (0.2, 0.3)))
    x = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    prepared, _ = prepare(read, question.preprocessing, (2, 6, 6))
    chosen = ImageSet("noise", "test", x, prepared.replay(x).argmax(1), 3)
    settings = CertifySettings(epsilon=0.001, stages=("clean", "abcrown"), timeout=20.0)
    asking = Setup(tool, tmp_path / "runs").stage
    found = certify_set(read, chosen, settings, question=question, abcrown=asking)
    assert {record.status for record in found.records} == {Status.VERIFIED}
    (log,) = (tmp_path / "runs").glob("*/abcrown.log")
    assert "network as of_the_tool" in log.read_text(encoding="utf-8")
