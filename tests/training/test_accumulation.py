"""Parts of a batch with statistics of the whole: the same loss and running statistics."""

from typing import Any

import pytest
import torch
from torch import Tensor

from verify_pipeline import losses
from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.network import zoo
from verify_pipeline.training import train
from verify_pipeline.training.accumulation import WholeBatchStatistics, measure
from verify_pipeline.training.step import LossStep, StepPlan

from .conftest import settings
from .test_loop import weights

NORMALISED = {"name": "cnn5", "width": 0.06}


def stepped(
    kind: str, policy: str, cuts: int, statistics: str, epsilon: float, images: ImageSet
) -> tuple[float, dict[str, Tensor], Tensor]:
    """Loss, running statistics and gradient of a batch of 32 images in so many parts."""
    torch.manual_seed(0)
    module = zoo.build("cnn5", (1, 8, 8), 2, (0.4,), (0.3,), 0.06, None).double()
    chosen = settings(
        kind,
        0.3,
        network=NORMALISED,
        batch_norm_policy=policy,
        attack={"steps": 2, "step_size": 0.5},
    )
    loss = losses.get(kind)
    bounder = AutoLirpaBounder(module, (1, 8, 8)) if loss.needs_bounds else None
    passes = WholeBatchStatistics(module, bounder, policy=policy) if statistics == "batch" else None
    generator = torch.Generator().manual_seed(0)
    step = LossStep(module, bounder, loss, chosen, generator, passes=passes)
    pixels, labels = images.pixels(slice(0, 32)).double(), images.labels[:32]
    parts = list(zip(pixels.chunk(cuts), labels.chunk(cuts), strict=True))
    plan = StepPlan(epsilon, 0.3, 0.0)
    points: list[Any] = [None] * cuts
    if passes is not None:
        points = measure(passes, parts, lambda x, y: step.attacked(x, y, plan))
    total = 0.0
    for (x, y), found in zip(parts, points, strict=True):
        result = step(x, y, plan, found)
        (result.loss * len(x) / 32).backward()
        total += float(result.loss.detach()) * len(x) / 32
    gradient = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    running = {k: v for k, v in module.state_dict().items() if "running" in k}
    return total, running, gradient


@pytest.mark.parametrize("policy", ["paper", "ctbench"])
@pytest.mark.parametrize("kind", ["cc-ibp", "mtl-ibp", "ibp", "adversarial", "natural", "sabr"])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_the_loss_is_that_of_the_whole_batch(
    kind: str, policy: str, epsilon: float, images: ImageSet
) -> None:
    whole, running, gradient = stepped(kind, policy, 1, "part", epsilon, images)
    loss, moved, parts_gradient = stepped(kind, policy, 4, "batch", epsilon, images)
    assert loss == pytest.approx(whole, rel=1e-9)
    for name, value in running.items():
        torch.testing.assert_close(moved[name], value, atol=1e-10, rtol=1e-9)
    assert parts_gradient.shape == gradient.shape
    assert not torch.allclose(parts_gradient, gradient)  # the way through the statistics is missing
    apart, other, _ = stepped(kind, policy, 4, "part", epsilon, images)
    assert apart != pytest.approx(whole, rel=1e-6)
    assert any(not torch.allclose(other[name], value) for name, value in running.items())


def test_cutting_a_batch_makes_no_difference(images: ImageSet) -> None:
    two = stepped("mtl-ibp", "paper", 2, "batch", 0.1, images)
    eight = stepped("mtl-ibp", "paper", 8, "batch", 0.1, images)
    assert two[0] == pytest.approx(eight[0], rel=1e-9)
    torch.testing.assert_close(two[2], eight[2], atol=1e-10, rtol=1e-7)


def test_exp_ibp_has_means_over_a_part(images: ImageSet) -> None:
    whole, *_ = stepped("exp-ibp", "paper", 1, "part", 0.1, images)
    parts, *_ = stepped("exp-ibp", "paper", 4, "batch", 0.1, images)
    assert parts != pytest.approx(whole, rel=1e-9)
    assert parts == pytest.approx(whole, rel=0.1)


@pytest.mark.parametrize("policy", ["paper", "ctbench"])
def test_a_training_with_it_learns(policy: str, images: ImageSet, info: DataSetInfo) -> None:
    options = {"epochs": 15, "batch": 32, "milestones": [], "learning_rate": 5e-3}
    cut = {**options, "accumulate": 4, "accumulate_statistics": "batch"}
    schedule = {"target": 0.02, "length": 3}
    chosen = settings(
        "mtl-ibp",
        0.1,
        network=NORMALISED,
        batch_norm_policy=policy,
        optimiser=cut,
        epsilon=schedule,
    )
    assert train(chosen, images, info).metrics[-1]["train_clean"] > 0.9


def test_without_batch_norm_it_is_the_same(images: ImageSet, info: DataSetInfo) -> None:
    options = {"epochs": 4, "batch": 32, "milestones": [3], "accumulate": 2}
    part = train(settings(optimiser=options), images, info)
    batch = train(settings(optimiser={**options, "accumulate_statistics": "batch"}), images, info)
    assert torch.equal(weights(part.module), weights(batch.module))
