"""Recorded, held and recomputed statistics against sums by hand; nothing stays behind."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from verify_pipeline.training.batch_norm import held, recompute_statistics, recorded


@pytest.fixture
def module() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3),
        nn.BatchNorm1d(3, momentum=0.3),
    )  # fmt: skip
    nn.init.normal_(made[1].weight)
    nn.init.normal_(made[5].bias)
    return made


X = torch.rand(5, 1, 3, 3, generator=torch.Generator().manual_seed(1))
OTHER = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(2))


def test_recorded_statistics(module: nn.Sequential) -> None:
    with recorded(module) as found:
        module(X)
    first = module[0](X)
    mean = first.sum((0, 2, 3)) / 20
    variance = ((first - mean.view(1, 2, 1, 1)) ** 2).sum((0, 2, 3)) / 20
    torch.testing.assert_close(found["1"], (mean, variance))
    assert set(found) == {"1", "5"}
    (of_found,) = torch.autograd.grad(found["1"][1].sum(), module[0].weight)
    (of_sums,) = torch.autograd.grad(variance.sum(), module[0].weight)
    torch.testing.assert_close(of_found, of_sums)
    before = dict(found)
    module(OTHER)
    assert found == before


def test_held_statistics(module: nn.Sequential) -> None:
    with recorded(module) as found:
        expected = module(X)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    with held(module, found):
        torch.testing.assert_close(module(X), expected)
        together = module(torch.cat([X, OTHER]))
        # no image has an influence on another one's output
        torch.testing.assert_close(together[5:], module(OTHER))
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert module.training
    assert all(layer.training for layer in module)
    own = F.batch_norm(
        module[0](OTHER), None, None, module[1].weight, module[1].bias, training=True
    )
    torch.testing.assert_close(module[:2](OTHER), own)


def test_held_leaves_nothing_behind_where_something_fails(module: nn.Sequential) -> None:
    module.eval()
    with recorded(module) as found:
        module(X)
    expected = module(OTHER)
    with pytest.raises(RuntimeError, match="stop"), held(module.train(), found):
        raise RuntimeError("stop")
    assert module.training
    torch.testing.assert_close(module.eval()(OTHER), expected)


def test_recomputed_statistics(module: nn.Sequential) -> None:
    module.eval()
    recompute_statistics(module, [X, OTHER])
    parts = [module[0](each) for each in (X, OTHER)]
    # each batch counts alike, however many images it has; variances are unbiased
    mean = (parts[0].mean((0, 2, 3)) + parts[1].mean((0, 2, 3))) / 2
    variance = (parts[0].var((0, 2, 3)) + parts[1].var((0, 2, 3))) / 2
    torch.testing.assert_close(module[1].running_mean, mean)
    torch.testing.assert_close(module[1].running_var, variance)
    assert [module[1].momentum, module[5].momentum] == [0.1, 0.3]
    assert not module.training


def test_statistics_of_a_layer_without_scale_and_shift() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2, affine=False))
    with recorded(module) as found:
        expected = module(X)
    with held(module, found):
        torch.testing.assert_close(module(X), expected)
