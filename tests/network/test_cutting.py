"""Where modules can be cut in two, and what lies behind the cut."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline.errors import ConfigError, NetworkError
from verify_pipeline.network import zoo
from verify_pipeline.network.cutting import ModuleCuts


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return zoo.build(name, (1, 8, 8), 4, (0.4,), (0.3,), width=0.2).eval()


def relu_outputs(module: nn.Module, x: Tensor) -> list[Tensor]:
    """What each ReLU layer gives, in the order of computation."""
    seen: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda _, __, out: seen.append(out))
        for layer in module.modules()
        if isinstance(layer, nn.ReLU)
    ]
    module(x)
    for handle in handles:
        handle.remove()
    return seen


SEQUENTIAL = ["mlp", "conv-small", "conv-medium", "cnn5", "cnn7"]


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_the_part_behind_any_relu_of_a_sequence_completes_the_network(name: str) -> None:
    module, x = network(name), torch.rand(3, 1, 8, 8)
    cuts, latent = ModuleCuts(module), relu_outputs(module, x)
    assert cuts.relus == len(latent)
    for behind in range(cuts.relus):
        part = cuts.behind(behind)
        torch.testing.assert_close(part(latent[-1 - behind]), module(x))
        assert sum(isinstance(layer, nn.ReLU) for layer in part.modules()) == behind


def test_a_residual_network_is_cut_between_its_blocks() -> None:
    module, x = network("resnet"), torch.rand(3, 1, 8, 8)
    cuts, latent = ModuleCuts(module), relu_outputs(module, x)
    assert cuts.relus == 8
    for behind in (0, 1, 3, 5, 7):
        torch.testing.assert_close(cuts.behind(behind)(latent[-1 - behind]), module(x))
    for behind in (2, 4, 6):
        with pytest.raises(ConfigError) as error:
            cuts.behind(behind)
        assert f"got {behind}: a connection goes past layer" in str(error.value)
        assert ".branch.2" in str(error.value)
    assert (
        "expected one of 0 (behind layer 10), 1 (behind layer 6.relu), 3 (behind layer 5.relu), "
        "5 (behind layer 4.relu), 7 (behind layer 3), 8 (the whole network)" in str(error.value)
    )


def test_the_whole_network_is_itself() -> None:
    for name in (*SEQUENTIAL, "resnet", "vit"):
        module = network(name)
        cuts = ModuleCuts(module)
        assert cuts.behind(cuts.relus) is module


def test_more_relus_than_there_are() -> None:
    with pytest.raises(ConfigError, match="got 9, but the network has 3"):
        ModuleCuts(network("mlp")).behind(9)


def test_a_transformer_has_no_cut() -> None:
    for behind in (0, 1):
        with pytest.raises(ConfigError, match=r"expected one of 2 \(the whole network\)"):
            ModuleCuts(network("vit")).behind(behind)


def test_parameters_are_shared() -> None:
    module = network("conv-small")
    part = ModuleCuts(module).behind(1)
    assert {id(p) for p in part.parameters()} == {id(p) for p in list(module.parameters())[-4:]}


class Functional(nn.Module):
    """ReLUs as functions and a method; a constant is added behind the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.shift = nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        x = torch.relu(self.second(x) + self.shift)
        out: Tensor = self.third(x.relu())
        return out


def test_relus_may_be_functions() -> None:
    module, x = Functional(), torch.rand(5, 3)
    cuts = ModuleCuts(module)
    assert cuts.relus == 3
    torch.testing.assert_close(cuts.behind(2)(F.relu(module.first(x))), module(x))


class Branching(nn.Module):
    """What torch.fx cannot trace."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_traced_is_told() -> None:
    with pytest.raises(NetworkError) as error:
        ModuleCuts(Branching())
    assert "expected a module that torch.fx can trace" in str(error.value)
    assert "Choose a loss that bounds the whole network." in str(error.value)
