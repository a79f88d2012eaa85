"""The zoo: shapes, sizes, normalisation."""

import pytest
import torch
from torch import nn

from verify_pipeline.errors import ConfigError
from verify_pipeline.network import zoo
from verify_pipeline.network.zoo.layers import Normalise


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", zoo.names())
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_builds_and_answers(name: str, shape: tuple[int, int, int]) -> None:
    module = zoo.build(name, shape, 7, (0.5,) * shape[0], (0.25,) * shape[0], width=0.25)
    assert module(torch.rand(2, *shape)).shape == (2, 7)
    assert isinstance(next(iter(module.children())), Normalise)


def test_cnn7_is_the_papers() -> None:
    module = zoo.build("cnn7", (3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3)
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 64, 128, 128, 128]
    assert [c.stride[0] for c in convolutions] == [1, 1, 2, 1, 1]
    assert sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in module.modules()) == 6
    assert round(parameters(module) / 1e6, 2) == 17.19


def test_imagenet_variant_of_cnn7_has_a_fifth_stride() -> None:
    module = zoo.build("cnn7", (3, 64, 64), 200, (0.0,) * 3, (1.0,) * 3, width=0.125)
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert [c.stride[0] for c in convolutions] == [1, 1, 2, 1, 2]


def test_batch_norm_can_be_left_out() -> None:
    module = zoo.build("resnet", (3, 16, 16), 10, (0.0,) * 3, (1.0,) * 3, batch_norm=False)
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in module.modules())


def test_normalise_by_hand() -> None:
    layer = Normalise((0.5, 0.25), (0.5, 0.125))
    out = layer(torch.tensor([0.75, 0.5]).reshape(1, 2, 1, 1))
    assert out.flatten().tolist() == [0.5, 2.0]


def test_vectors_are_normalised_number_by_number() -> None:
    layer = Normalise((0.5, 0.25), (0.5, 0.125), axes=1)
    assert layer(torch.tensor([[0.75, 0.5], [0.0, 0.25]])).tolist() == [[0.5, 2.0], [-1.0, 0.0]]
    module = zoo.build("mlp", (2,), 3, (0.5, 0.25), (0.5, 0.125), width=0.1)
    assert module(torch.zeros(4, 2)).shape == (4, 3)


@pytest.mark.parametrize("name", sorted(set(zoo.names()) - {"mlp"}))
def test_networks_of_images_refuse_vectors(name: str) -> None:
    with pytest.raises(ConfigError, match="expected images C x H x W; got vectors of 64 numbers"):
        zoo.build(name, (64,), 10, (0.0,), (1.0,))


def test_unknown_and_unfitting_names() -> None:
    with pytest.raises(ConfigError, match="conv-small"):
        zoo.build("conv_small", (1, 8, 8), 10, (0.0,), (1.0,))
    with pytest.raises(ConfigError, match="strides"):
        zoo.build("conv-small", (1, 2, 2), 10, (0.0,), (1.0,))
