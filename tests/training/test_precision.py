"""The attack in bfloat16: another attack, in the same boxes, and nothing else."""

from typing import Any

import pytest
import torch

from verify_pipeline import losses
from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.network import zoo
from verify_pipeline.training import train
from verify_pipeline.training.precision import passes_in
from verify_pipeline.training.step import LossStep, StepPlan

from .conftest import settings
from .test_loop import weights

NORMALISED = {"name": "cnn5", "width": 0.06}


def stepped(precision: str, policy: str, images: ImageSet) -> tuple[Any, Any, Any, Any]:
    """Points, loss without the attack's influence, running statistics, and dtypes seen."""
    torch.manual_seed(0)
    module = zoo.build("cnn5", (1, 8, 8), 2, (0.4,), (0.3,), 0.06, None)
    attack = {"steps": 3, "step_size": 0.5, "precision": precision}
    chosen = settings("mtl-ibp", 1.0, network=NORMALISED, attack=attack, batch_norm_policy=policy)
    bounder = AutoLirpaBounder(module, (1, 8, 8))
    generator = torch.Generator().manual_seed(0)
    step = LossStep(module, bounder, losses.get("mtl-ibp"), chosen, generator)
    pixels, labels, plan = images.pixels(slice(0, 32)), images.labels[:32], StepPlan(0.1, 1.0, 0.0)
    if policy == "ctbench":
        step(pixels, labels, plan)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    seen: list[torch.dtype] = []
    layer = next(m for m in module.modules() if isinstance(m, torch.nn.Linear))
    handle = layer.register_forward_hook(lambda _, x, out: seen.append(out.dtype))
    points = step.attacked(pixels, labels, plan)
    handle.remove()
    after = module.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert (points - pixels).abs().max() <= 0.1 + 1e-6
    result = step(pixels, labels, plan, points)
    return points, result, after, seen


@pytest.mark.parametrize("policy", ["paper", "ctbench"])
def test_the_attack_alone_is_narrow(policy: str, images: ImageSet) -> None:
    wide, _, _, in_float32 = stepped("float32", policy, images)
    narrow, result, after, in_bfloat16 = stepped("bfloat16", policy, images)
    assert set(in_float32) == {torch.float32}
    assert set(in_bfloat16) == {torch.bfloat16}
    assert narrow.dtype == torch.float32
    assert not torch.equal(wide, narrow)
    assert result.loss.dtype == torch.float32
    assert all(v.dtype == torch.float32 for v in after.values() if v.is_floating_point())


@pytest.mark.parametrize("name", ["ibp", "natural"])
def test_losses_without_an_attack_do_not_change(
    name: str, images: ImageSet, info: DataSetInfo
) -> None:
    wide = train(settings(name, network=NORMALISED), images, info)
    narrow = train(
        settings(name, network=NORMALISED, attack={"precision": "bfloat16"}), images, info
    )
    assert torch.equal(weights(wide.module), weights(narrow.module))


def test_it_is_off_outside() -> None:
    with passes_in("bfloat16", torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu")
    with passes_in("float32", torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")


def test_other_precisions_are_refused() -> None:
    with pytest.raises(ValueError, match="'float32' or 'bfloat16'"):
        settings(attack={"precision": "float16"})
