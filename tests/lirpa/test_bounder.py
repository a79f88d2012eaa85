"""The adapter to auto_LiRPA: right values, gradients, batch norm statistics."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from verify_pipeline.errors import NetworkError
from verify_pipeline.lirpa import AutoLirpaBounder, load
from verify_pipeline.network import zoo
from verify_pipeline.problem import Box, Specification, margin_matrix
from verify_pipeline.training.batch_norm import recorded


def test_the_release_and_its_shims_are_known() -> None:
    lirpa = load()
    assert lirpa.version
    assert load() is lirpa
    if lirpa.version.startswith("0.3"):
        assert "torch._C.Node.__getitem__" in lirpa.shims


def test_its_import_leaves_no_recursion_limit_that_overflows_the_stack() -> None:
    code = (
        "import json, sys\n"
        "from verify_pipeline.lirpa import load; load()\n"
        "try: json.loads('[' * 100_000)\n"
        "except RecursionError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr


def test_ibp_by_hand() -> None:
    # h = relu(x), f = (h, -2h), row f_0 - f_1 = 3h: merged, [0, 3·0.6]; unmerged logits give less
    module = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[0].bias.fill_(0.0)
        module[2].weight.copy_(torch.tensor([[1.0], [-2.0]]))
        module[2].bias.copy_(torch.tensor([0.5, 0.0]))
    bounder = AutoLirpaBounder(module, (1,))
    box = Box(torch.tensor([[0.2]]), torch.tensor([[0.6]]))
    lower = bounder.ibp(box, margin_matrix(torch.tensor([0]), 2))
    assert lower.item() == pytest.approx(3 * 0.2 + 0.5)


@pytest.mark.parametrize("name", ["mlp", "conv-small", "cnn5", "resnet", "vit"])
def test_margins_bound_the_network(name: str) -> None:
    torch.manual_seed(0)
    module = zoo.build(name, (1, 8, 8), 4, (0.3,), (0.5,), width=0.25).eval()
    bounder = AutoLirpaBounder(module, (1, 8, 8))
    images, labels = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 3, 0])
    box = Box.around(images, 0.005)
    specification = Specification.margins(labels, 4)
    with torch.no_grad():
        lower = bounder.ibp(box, specification.rows)
        for _ in range(50):
            points = box.lower + torch.rand_like(images) * (box.upper - box.lower)
            assert bool((specification.values(module(points)) >= lower - 1e-4).all())


@pytest.mark.parametrize("name", ["conv-small", "cnn5", "resnet"])
def test_crown_is_tighter_than_crown_ibp(name: str) -> None:
    torch.manual_seed(0)
    module = zoo.build(name, (1, 8, 8), 4, (0.3,), (0.5,), width=0.25).eval()
    bounder = AutoLirpaBounder(module, (1, 8, 8))
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    box, rows = Box.around(images, 0.02), margin_matrix(labels, 4)
    with torch.no_grad():
        ibp, mixed = bounder.ibp(box, rows), bounder.crown_ibp(box, rows)
        crown = bounder.crown(box, rows)
        at_images = torch.einsum("nsk,nk->ns", rows, module(images))
    assert float(crown.mean()) > float(mixed.mean()) > float(ibp.mean())
    assert bool((crown <= at_images + 1e-5).all())


def test_gradients_reach_every_parameter() -> None:
    module = zoo.build("cnn5", (1, 8, 8), 3, (0.0,), (1.0,), width=0.1)
    bounder = AutoLirpaBounder(module, (1, 8, 8))
    images = torch.rand(6, 1, 8, 8)
    bounder.forward(images)
    rows = margin_matrix(torch.tensor([0, 1, 2, 0, 1, 2]), 3)
    bounder.ibp(Box.around(images, 0.01), rows).sum().backward()
    # all but biases before batch norm, which cancels them
    weights = [p for name, p in module.named_parameters() if name.endswith("weight")]
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in weights)


def batch_norm_net() -> tuple[nn.Module, AutoLirpaBounder]:
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    return module, AutoLirpaBounder(module, (3,))


def test_train_mode_bounds_use_the_last_batch_statistics_undetached() -> None:
    module, bounder = batch_norm_net()
    bounder.train(True)
    x, rows = torch.rand(8, 3), margin_matrix(torch.zeros(8, dtype=torch.long), 2)
    outputs = bounder.forward(x)
    # on boxes that are points, bounds are the outputs: of the same statistics, not the running ones
    lower = bounder.ibp(Box(x, x), rows)
    torch.testing.assert_close(lower[:, 0], outputs[:, 0] - outputs[:, 1])
    (of_bounds,) = torch.autograd.grad(lower.sum(), module[0].weight, retain_graph=True)
    (of_outputs,) = torch.autograd.grad((outputs[:, 0] - outputs[:, 1]).sum(), module[0].weight)
    torch.testing.assert_close(of_bounds, of_outputs, atol=1e-5, rtol=1e-4)


def test_forward_in_train_mode_updates_the_modules_running_statistics() -> None:
    module, bounder = batch_norm_net()
    before = module[1].running_mean.clone()
    bounder.forward(torch.rand(8, 3))
    assert not torch.equal(module[1].running_mean, before)


def test_eval_mode_uses_the_modules_running_statistics_and_leaves_gradients_on() -> None:
    module, bounder = batch_norm_net()
    module[1].running_mean.fill_(0.3)
    bounder.train(False)
    x, rows = torch.rand(8, 3), margin_matrix(torch.zeros(8, dtype=torch.long), 2)
    lower = bounder.ibp(Box(x, x), rows)
    outputs = module(x)
    torch.testing.assert_close(lower[:, 0], outputs[:, 0] - outputs[:, 1])
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("method", ["ibp", "crown_ibp"])
def test_given_statistics_are_used_with_their_gradients(method: str) -> None:
    module, bounder = batch_norm_net()
    x, rows = torch.rand(8, 3), margin_matrix(torch.zeros(8, dtype=torch.long), 2)
    mean = torch.tensor([0.1, -0.2, 0.3, 0.0], requires_grad=True)
    variance = torch.tensor([0.5, 1.5, 2.0, 0.1], requires_grad=True)
    running = module[1].running_mean.clone()
    bounder.train(True)
    bounder.use_statistics({"1": (mean, variance)})
    # on boxes that are points, bounds are the outputs
    lower = getattr(bounder, method)(Box(x, x), rows)[:, 0]
    hidden = (module[0](x) - mean) / (variance + module[1].eps).sqrt()
    outputs = module[3](hidden.relu())
    expected = outputs[:, 0] - outputs[:, 1]
    torch.testing.assert_close(lower, expected, atol=1e-5, rtol=1e-4)
    given = (mean, variance, module[0].weight)
    ours = torch.autograd.grad(lower.square().sum(), given)
    by_hand = torch.autograd.grad(expected.square().sum(), given)
    torch.testing.assert_close(ours, by_hand, atol=1e-4, rtol=1e-3)
    assert torch.equal(module[1].running_mean, running)


def test_given_statistics_reach_folded_and_shared_layers() -> None:
    torch.manual_seed(4)
    module = zoo.build("resnet", (1, 8, 8), 3, (0.3,), (0.5,), width=0.2)
    bounder = AutoLirpaBounder(module, (1, 8, 8))
    x = torch.rand(6, 1, 8, 8)
    rows = margin_matrix(torch.tensor([0, 1, 2, 0, 1, 2]), 3)
    bounder.train(True)
    with recorded(module) as statistics:
        outputs = module(x)
    bounder.use_statistics(statistics)
    lower = bounder.ibp(Box(x, x), rows)
    expected = torch.einsum("nsk,nk->ns", rows, outputs)
    torch.testing.assert_close(lower, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_frozen_parameters_stay_frozen(training: bool) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    module[0].weight.requires_grad_(False)
    bounder = AutoLirpaBounder(module, (2,))
    bounder.train(training)
    box = Box.around(torch.rand(4, 2), 0.1)
    bounder.ibp(box, margin_matrix(torch.zeros(4, dtype=torch.int64), 2, torch.float32))
    bounder.forward(box.center)
    assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]


@pytest.mark.parametrize(
    "layer", [nn.LayerNorm(4), nn.Unflatten(1, (4, 1))], ids=["bounds", "tracing"]
)
def test_what_lirpa_cannot_bound_is_an_error_of_the_network(layer: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(2, 4), layer, nn.Flatten(), nn.Linear(4, 2))
    if isinstance(layer, nn.Unflatten):
        module.insert(2, nn.Conv1d(4, 4, 1))
    rows = margin_matrix(torch.zeros(3, dtype=torch.int64), 2, torch.float32)
    with pytest.raises(NetworkError, match=r"of this network|cannot bound"):
        AutoLirpaBounder(module, (2,)).ibp(Box.around(torch.rand(3, 2), 0.1), rows)
