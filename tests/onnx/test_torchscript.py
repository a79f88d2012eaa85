"""TorchScript modules, as they are made and as they come back from a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline import api
from verify_pipeline.errors import NetworkError

SHAPE = (1, 6, 6)
PIXELS = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))


def module() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    made = nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(36, 3))
    made(PIXELS)  # running statistics that are not the initial ones
    return made.eval()


def script(made: nn.Module) -> Any:
    return torch.jit.script(made)


def trace(made: nn.Module) -> Any:
    return torch.jit.trace(made, PIXELS[:1])


def frozen(made: nn.Module) -> Any:
    return torch.jit.freeze(torch.jit.script(made))


@pytest.mark.parametrize("make", [script, trace, frozen])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_a_script_is_the_module_it_was_made_of(
    make: Callable[[nn.Module], Any], tmp_path: Path
) -> None:
    expected = module()
    make(expected).save(str(tmp_path / "network.pt"))
    network = api.network_from_module(torch.jit.load(str(tmp_path / "network.pt")), SHAPE)
    assert torch.allclose(network.replay(PIXELS), expected(PIXELS), atol=1e-5)
    assert torch.allclose(network.graph(PIXELS.double()).float(), expected(PIXELS), atol=1e-5)
    labels = network.replay(PIXELS).argmax(1)
    images = api.ImageSet("mine", "test", PIXELS, labels, 3)
    plain = api.certify(api.network_from_module(expected, SHAPE), images, 0.01)
    loaded = api.certify(network, images, 0.01)
    assert [r.status for r in loaded.records] == [r.status for r in plain.records]
    assert loaded.tally.proved > 0


class Branches(nn.Module):
    """Takes another way for dark images."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(1)
        if float(x.sum()) > 5.0:
            y = -y
        return y


@pytest.mark.filterwarnings("ignore")  # the tracer doubts what is done here, and rightly
def test_what_depends_on_the_batch_or_on_chance_is_refused() -> None:
    with pytest.raises(NetworkError):
        api.network_from_module(torch.jit.script(Branches()), SHAPE)
    with pytest.raises(NetworkError):
        api.network_from_module(Branches(), SHAPE)
    with torch.random.fork_rng():
        careless = torch.jit.trace(module().train(), PIXELS[:2], check_trace=False)
    with pytest.raises(NetworkError):
        api.network_from_module(careless, SHAPE)


def test_the_wrong_shape_is_refused() -> None:
    with pytest.raises(NetworkError, match="torch can export"):
        api.network_from_module(module(), (1, 9, 9))
