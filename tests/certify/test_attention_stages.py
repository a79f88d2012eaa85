"""Stages on a network with attention: bounds of neurons are optimised where time allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.certify.harder import Harder
from verify_pipeline.bounds import OptimiseSettings
from verify_pipeline.branching import SearchSettings
from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.instances import RobustImages
from verify_pipeline.certify.knowledge import Knowledge
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.certify.settings import CertifySettings, StageName, plan
from verify_pipeline.certify.stage_settings import AlphaCrownSettings
from verify_pipeline.certify.stages import build_stages
from verify_pipeline.data import ImageSet
from verify_pipeline.onnx import Network, network_from_module
from verify_pipeline.problem import Decision, Status

CPU = torch.device("cpu")
COUNT = 12
SEARCH = SearchSettings(
    root=OptimiseSettings(iterations=10),
    domain=OptimiseSettings(iterations=5),
    max_domains=40,
)


class Attention(nn.Module):
    """One block over three tokens of four numbers each, a ReLU, three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.keys, self.values = (nn.Linear(4, 4) for _ in range(3))
        self.hidden, self.out = nn.Linear(12, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.queries(x) @ self.keys(x).transpose(1, 2)
        mixed = (2 * scores).softmax(-1) @ self.values(x)
        found: Tensor = self.out(self.hidden(mixed.flatten(1)).relu())
        return found


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(4)
    return network_from_module(Attention().eval(), (3, 4))


def task_of(network: Network, epsilon: float) -> Task:
    pixels = torch.rand(COUNT, 3, 4, generator=torch.Generator().manual_seed(2))
    images = ImageSet("toy", "test", pixels, network.replay(pixels).argmax(1), 3)
    batch = RobustImages(images, range(COUNT), LinfBall(epsilon)).batch(range(COUNT))
    seconds = torch.full((COUNT,), 20.0, dtype=torch.float64)
    knowledge = Knowledge(1 << 22, CPU)
    indices = tuple(range(COUNT))
    return Task(indices, batch.box, batch.spec, batch.points, seconds, knowledge, lambda: True)


def run(
    network: Network,
    task: Task,
    name: StageName,
    clock: Callable[[], float] = lambda: 0.0,
    alpha_crown: AlphaCrownSettings | None = None,
) -> list[Decision]:
    stages: tuple[StageName, ...] = ("clean", name)
    settings = CertifySettings(epsilon=0.1, stages=stages, search=SEARCH)
    chosen = plan(replace(settings, alpha_crown=alpha_crown or AlphaCrownSettings()))
    subject = Subject.of(network.graph, network.replay, CPU)
    stage = build_stages(chosen, subject, task.spec.rows.shape[1], clock)[1]
    return sorted(stage.run(task), key=lambda decision: decision.place)


def bounds_of(decisions: list[Decision]) -> Tensor:
    return torch.tensor([d.bound for d in decisions], dtype=torch.float64)


def test_bounds_of_neurons_help_where_there_is_time(network: Network) -> None:
    task = task_of(network, 0.3)
    crown = bounds_of(run(network, task, "crown"))
    hurried = replace(task, seconds=torch.full((COUNT,), 1e-9, dtype=torch.float64))
    slow = bounds_of(run(network, hurried, "alpha-crown"))
    quick = bounds_of(run(network, task, "alpha-crown"))
    open_ = slow <= 0
    assert open_.sum() > 2
    assert (slow >= crown - 1e-9).all()
    assert (quick >= slow - 1e-9).all()
    assert (quick[open_] > slow[open_] + 1e-3).all()
    dear = AlphaCrownSettings(neuron_walks=1e12)  # as if there were no time for it
    again = bounds_of(run(network, task_of(network, 0.3), "alpha-crown", alpha_crown=dear))
    assert torch.equal(again, slow)
    short = AlphaCrownSettings(neurons=OptimiseSettings(iterations=0))
    less = bounds_of(run(network, task_of(network, 0.3), "alpha-crown", alpha_crown=short))
    assert (less[open_] < quick[open_]).any()


def test_bounds_for_real_numbers_do_not_decide_as_deployed(network: Network) -> None:
    """Errors of the file's evaluation that exceed every margin leave every image open."""

    task = replace(task_of(network, 0.01), harden=Harder(1000.0))
    decisions = run(network, task, "alpha-crown")
    assert {decision.status for decision in decisions} == {Status.UNKNOWN}
    real = run(network, task_of(network, 0.01), "alpha-crown")
    assert Status.VERIFIED in {decision.status for decision in real}
    assert bounds_of(decisions).tolist() == pytest.approx(
        (bounds_of(real) - 1000).tolist(), abs=0.5
    )


def test_what_is_decided_is_true(network: Network) -> None:
    task, graph = task_of(network, 0.3), network.graph.to(torch.float64)
    names: tuple[StageName, ...] = ("crown", "alpha-crown", "branch-and-bound")
    generator = torch.Generator().manual_seed(6)
    least = torch.full((COUNT,), torch.inf, dtype=torch.float64)
    for _ in range(400):
        share = torch.rand(COUNT, 3, 4, generator=generator, dtype=torch.float64)
        points = torch.lerp(task.box.lower, task.box.upper, share.round())
        least = torch.minimum(least, task.spec.values(graph(points)).amin(1))
    verified: dict[str, set[int]] = {}
    for name in names:
        found = run(network, task, name)
        for decision in found:
            if decision.bound is not None:
                assert decision.bound <= least[decision.place]
            if decision.status is Status.VERIFIED:
                assert decision.bound is not None
                assert decision.bound > 0
        verified[name] = {d.place for d in found if d.status is Status.VERIFIED}
    assert verified["crown"] <= verified["alpha-crown"]
    assert 0 < len(verified["alpha-crown"]) < COUNT
