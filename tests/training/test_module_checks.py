"""What cannot be trained, bounded or certified is refused before training, by layer name."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline import losses
from verify_pipeline.errors import NetworkError
from verify_pipeline.training.module_checks import check_module, check_weights

SHAPE, CLASSES = (1, 6, 6), 3


class Applied(nn.Module):
    """A function as a layer, or inside a forward pass."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        match self.function:
            case "sorted":
                return x.sort(1).values
            case "noisy":
                return x + torch.randn_like(x)
            case "by value":
                return x if bool(x.sum() > 0) else -2 * x
            case "mixed":
                return x - x.mean(0, keepdim=True)
        raise ValueError("a layer that always fails")


class Centred(nn.Module):
    """Subtracts the batch's mean while it is trained, as a user's own normalisation does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        return x - (x.mean(0) if self.training else self.mean)


class Sorting(nn.Module):
    """Sorts in its own forward pass, where no layer has a name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(36, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.first(x.flatten(1))).sort(1).values)


class Weighted(nn.Module):
    """Has a weight that was computed before, as torch's first weight normalisation does."""

    def __init__(self) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.ones(8))
        self.weight = 2 * self.root

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def network(layer: nn.Module, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(36, 8), layer, nn.ReLU())
    return nn.Sequential(nn.Flatten(), body, nn.Linear(8, classes))


def check(module: nn.Module, loss: str = "cc-ibp") -> None:
    check_weights(module)
    check_module(module, SHAPE, CLASSES, losses.get(loss))


@pytest.mark.parametrize(
    "layer", [nn.Identity(), nn.BatchNorm1d(8), nn.GELU(), nn.Tanh()], ids=repr
)
@pytest.mark.parametrize("loss", ["natural", "adversarial", "cc-ibp", "sabr"])
def test_what_works_passes_and_stays_as_it_is(layer: nn.Module, loss: str) -> None:
    module = network(layer)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    check(module, loss)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (
            nn.Dropout(0.0),
            r"can bound, for cc-ibp; got 1\.1 \(Dropout\): .*forward pass",
        ),
        (nn.Dropout(0.5), r"same outputs.*others from 1\.1 \(Dropout\).*Leave out dropout"),
        (Applied("noisy"), r"same outputs.*others from 1\.1 \(Applied\)"),
        (Applied("sorted"), r"auto_LiRPA can bound, for cc-ibp; got 1\.1 \(Applied\): TopK"),
        (Applied("by value"), "as certification would read it"),
        (Applied("mixed"), "as certification would read it.*mixes the inputs"),
        (Applied("fails"), r"ValueError: a layer that always fails, after layer 1\.0 \(Linear\)"),
        (nn.BatchNorm1d(8, track_running_stats=False), r"running statistics; got none in 1\.1"),
        (nn.Linear(8, 9), r"mat1 and mat2.*after layer 1\.2 \(ReLU\)"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_does_not_work_is_named(layer: nn.Module, told: str) -> None:
    with pytest.raises(NetworkError, match=told):
        check(network(layer))


def test_operations_outside_of_layers_are_named_by_operator() -> None:
    with pytest.raises(NetworkError, match=r"operations outside of its layers: TopK"):
        check(Sorting())


def test_without_bounds_only_certification_has_to_read_it() -> None:
    with pytest.raises(NetworkError, match=r"as certification would read it.*TopK"):
        check(Sorting(), "adversarial")


def test_crown_needs_more_than_ibp() -> None:
    check(network(nn.ELU()), "ibp")
    with pytest.raises(NetworkError, match=r"for crown-ibp; got 1\.1 \(ELU\)"):
        check(network(nn.ELU()), "crown-ibp")


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (network(nn.ReLU(), 4), r"logits N x 3 of pixels \(2, 1, 6, 6\); got \(2, 4\)"),
        (nn.Flatten(), "expected weights to train; got none"),
        (network(nn.ReLU()).requires_grad_(False), "expected weights to train; got none"),
        (network(nn.LazyLinear(8)), r"a shape; got none yet in 1\.1\.weight, 1\.1\.bias"),
        (network(torch.jit.script(nn.Linear(8, 8))), "expected Python's layers; got TorchScript"),
        (network(Weighted()), "a module that copy.deepcopy copies; got .*graph leaves"),
    ],
)
def test_other_shapes_and_no_weights(module: nn.Module, told: str) -> None:
    with pytest.raises(NetworkError, match=told):
        check(module)


def test_bounds_have_to_hold_in_train_mode_too() -> None:
    check(network(Centred()), "adversarial")
    with pytest.raises(NetworkError, match=r"1\.1 \(Centred\): other outputs in train mode"):
        check(network(Centred()))


@pytest.mark.parametrize("mode", ["zeros", "circular", "replicate", "reflect"])
def test_bounds_that_lirpa_gets_wrong(mode: str) -> None:
    """auto_LiRPA 0.3 takes every other padding for zeros."""
    first = nn.Conv2d(1, 2, 3, padding=1, padding_mode=mode)
    module = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(72, CLASSES))
    if mode in ("zeros", "circular"):
        check(module)
        return
    with pytest.raises(NetworkError, match=r"got 0 \(Conv2d\): other outputs in eval mode"):
        check(module)


def test_bounds_that_overflow() -> None:
    module = network(nn.Identity())
    nn.init.constant_(module[2].weight, 3e38)
    module[2].weight.data[1:].neg_()
    with pytest.raises(NetworkError, match=r"2 \(Linear\): bounds that are not"):
        check(module)


def test_batch_normalisation_is_passed_once() -> None:
    layer = nn.BatchNorm1d(8)
    module = network(nn.Sequential(layer, nn.Linear(8, 8), layer))
    with pytest.raises(NetworkError, match=r"once; got 2 passes through 1\.1\.0 \(BatchNorm1d\)"):
        check(module)


def test_held_out_images_need_bounds_whatever_the_loss() -> None:
    module = network(nn.LayerNorm(8))
    arguments = (module, SHAPE, CLASSES, losses.get("adversarial"))
    check_module(*arguments)
    told = r"bound, for held-out images; got 1\.1 \(LayerNorm\): .*set watch\.every to 0"
    with pytest.raises(NetworkError, match=told):
        check_module(*arguments, is_watched=True)
