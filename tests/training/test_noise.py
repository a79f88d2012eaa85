"""Noise on weights while a gradient is taken."""

import pytest
import torch
from torch import nn

from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.training import train
from verify_pipeline.training.noise import noisy_weights
from verify_pipeline.training.settings import OptimiserSettings

from .conftest import settings


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 40, 3), nn.BatchNorm2d(40), nn.ReLU(), nn.Flatten(), nn.Linear(1440, 50)
    )


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_noise_has_the_deviation_of_each_layer_and_goes_again() -> None:
    module = network()
    before = state(module)
    with noisy_weights(module, 0.3, (1, 2)):
        inside = state(module)
    after = state(module)
    assert all(torch.equal(before[name], after[name]) for name in before)
    changed = {name for name in before if not torch.equal(before[name], inside[name])}
    assert changed == {"0.weight", "4.weight"}
    for name in changed:
        noise = inside[name] - before[name]
        expected = 0.3 * float(before[name].std())
        assert float(noise.std()) == pytest.approx(expected, rel=0.1)
        assert abs(float(noise.mean())) < 0.15 * expected


def test_a_single_weight_has_no_deviation() -> None:
    module = nn.Linear(1, 1)
    before = module.weight.detach().clone()
    with noisy_weights(module, 0.3, (1,)):
        assert torch.equal(module.weight, before)


def test_it_is_the_same_for_the_same_step_only() -> None:
    module = network()
    seen = []
    for numbers in ((1, 2), (1, 2), (2, 1), (1, 3)):
        with noisy_weights(module, 0.1, numbers):
            seen.append(module[4].weight.detach().clone())
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[3])


def test_without_it_nothing_is_copied() -> None:
    module = network()
    version = module[0].weight._version
    with noisy_weights(module, 0.0, (1,)):
        pass
    assert module[0].weight._version == version


def test_weights_come_back_if_a_step_fails() -> None:
    module = network()
    before = state(module)
    with pytest.raises(ValueError, match="stop"), noisy_weights(module, 0.1, (1,)):
        raise ValueError("stop")
    assert torch.equal(before["0.weight"], module[0].weight)


def test_an_interrupted_training_goes_on_with_the_same_noise(
    images: ImageSet, info: DataSetInfo, tmp_path: object
) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    chosen = settings("ibp")
    noisy = settings(
        "ibp",
        optimiser={
            **vars(OptimiserSettings()),
            "epochs": 4,
            "milestones": (3,),
            "weight_noise": 0.1,
        },
    )
    whole = train(noisy, images, info).module
    train(noisy, images, info, folder, until=lambda rows: len(rows) == 2)
    resumed = train(noisy, images, info, folder).module
    for mine, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    plain = train(chosen, images, info).module
    assert not torch.equal(next(plain.parameters()), next(whole.parameters()))
