"""A training loop of one's own, from public functions alone, makes the steps of this package's."""

import copy
import dataclasses
import gc
import inspect
import re
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline import api, losses
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.training.step import LossStep, StepPlan

from .conftest import settings

EPSILON, ALPHA, SABR_LAMBDA = 0.1, 0.3, 0.4
IMAGES = torch.rand(16, 1, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 3
RATE = 0.01


def module(batch_norm: bool) -> nn.Module:
    torch.manual_seed(0)
    norm = [nn.BatchNorm1d(12)] if batch_norm else []
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), *norm, nn.ReLU(), nn.Linear(12, 3))


def own_loss(name: str, made: nn.Module) -> Tensor:
    """The loss of one step as a user writes it, in the paper's order."""
    bounder = api.AutoLirpaBounder(made, (1, 6, 6))
    bounder.train(True)
    clean = api.margins_of_logits(bounder.forward(IMAGES), LABELS)
    if name == "natural":
        return api.natural_loss(clean)
    box, rows = api.Box.around(IMAGES, EPSILON), api.margin_matrix(LABELS, 3)
    generator = torch.Generator().manual_seed(5)
    latent = api.LatentMargins(made, bounder, api.TapsSettings(), generator)
    if name == "taps":
        ibp = bounder.ibp(box, rows)
        return api.taps_loss(latent(box, rows), ibp)
    if name == "ibp":
        return api.ibp_loss(bounder.ibp(box, rows))
    if name == "crown-ibp":
        crown = bounder.crown_ibp(box, rows)
        return api.crown_ibp_loss(crown, bounder.ibp(box, rows), ALPHA)
    if name == "crown-ibp-fused":
        lower, upper = bounder.ibp_interval(box, rows)
        row = api.chord_slopes(lower, upper).unsqueeze(1) @ rows
        return api.crown_ibp_fused_loss(bounder.crown_of_last_ibp(row), lower, upper, ALPHA)
    made.eval()
    before = made(IMAGES).softmax(1).detach()

    def divergence(x: Tensor) -> Tensor:
        return (before * (before.log() - made(x).log_softmax(1))).sum(1)

    def cross_entropy(x: Tensor) -> Tensor:
        return F.cross_entropy(made(x), LABELS, reduction="none")

    points = api.pgd(
        divergence if name == "arow" else cross_entropy,
        box,
        steps=1,
        step_size=10.0,
        generator=generator,
    )
    bounder.train(True)
    adversarial = api.margins_of_logits(bounder.forward(points), LABELS)
    if name == "adversarial":
        return api.adversarial_loss(adversarial)
    if name == "mart":
        return api.mart_loss(clean, adversarial)
    if name == "arow":
        return api.arow_loss(clean, adversarial)
    small = api.sabr_box(IMAGES, points, EPSILON, SABR_LAMBDA)
    if name == "sabr":
        return api.ibp_loss(bounder.ibp(small, rows))
    if name == "mtl-sabr":
        return api.mtl_ibp_loss(adversarial, bounder.ibp(small, rows), ALPHA)
    if name == "staps":
        ibp = bounder.ibp(small, rows)
        return api.taps_loss(latent(small, rows), ibp)
    expressive = {
        "cc-ibp": api.cc_ibp_loss,
        "mtl-ibp": api.mtl_ibp_loss,
        "exp-ibp": api.exp_ibp_loss,
    }
    return expressive[name](adversarial, bounder.ibp(box, rows), ALPHA)


def packages_loss(name: str, made: nn.Module) -> Tensor:
    """The same step by this package's loop."""
    loss = losses.get(name)
    bounder = AutoLirpaBounder(made, (1, 6, 6)) if loss.needs_bounds else None
    generator = torch.Generator().manual_seed(5)
    chosen = settings(name, ALPHA, epsilon={"target": EPSILON, "length": 0})
    chosen = dataclasses.replace(
        chosen, loss=dataclasses.replace(chosen.loss, sabr_lambda=SABR_LAMBDA)
    )
    step = LossStep(made, bounder, loss, chosen, generator)
    return step(IMAGES, LABELS, StepPlan(EPSILON, ALPHA, 0.0)).loss


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_one_step_is_the_packages_own(name: str, batch_norm: bool) -> None:
    ours, theirs = module(batch_norm), module(batch_norm)
    before = copy.deepcopy(ours.state_dict())
    values = own_loss(name, ours), packages_loss(name, theirs)
    torch.testing.assert_close(values[0].detach(), values[1].detach())
    for made, value in zip((ours, theirs), values, strict=True):
        optimiser = torch.optim.SGD(made.parameters(), lr=RATE)
        value.backward()
        optimiser.step()
    weights = dict(theirs.named_parameters())
    for key, weight in ours.named_parameters():
        torch.testing.assert_close(weight, weights[key], rtol=1e-5, atol=1e-6)
    moved = [not torch.equal(before[key], weight) for key, weight in ours.named_parameters()]
    assert all(moved[-2:])


def test_every_loss_has_a_function_that_says_where_it_is_from() -> None:
    functions = {
        name.removesuffix("_loss").replace("_", "-")
        for name in api.__all__
        if name.endswith("_loss")
    }
    of_other_boxes = {"sabr", "mtl-sabr", "staps"}  # the functions of ibp, mtl-ibp and taps
    assert functions | of_other_boxes == set(losses.LOSSES)
    for name in api.__all__:
        if name.endswith("_loss"):
            text = inspect.getdoc(getattr(api, name)) or ""
            assert "N x S" in text
            # three write their equation out, with the paper
            paper = r"arXiv:\d{4}\.\d{5}\), (eq\.|section)"
            if name in ("mart_loss", "arow_loss", "crown_ibp_fused_loss"):
                paper = r"``mean .+\n\n(.+\n)*.* et al\. \d{4} \("
            assert name == "natural_loss" or re.search(paper, text)


def test_margins_of_logits_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, -1.0]])
    found = api.margins_of_logits(logits, torch.tensor([0, 2]))
    assert found.tolist() == [[2.0, 1.0], [-1.0, -6.0]]


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 3]), "labels; expected integers from 0 to 2; got 3"),
        (torch.zeros(2, 3), torch.tensor([0, -1]), "got -1"),
        (torch.zeros(2, 3), torch.tensor([0]), "expected logits N x K and N integer labels"),
        (torch.zeros(3), torch.tensor([0]), "expected logits N x K"),
        (torch.zeros(1, 3), torch.tensor([0.0]), "torch.float32"),
    ],
)
def test_margins_of_wrong_logits_or_labels(logits: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(api.VerifyPipelineError, match=message):
        api.margins_of_logits(logits, labels)


def loss_by_margins(made: nn.Module) -> Tensor:
    """CC-IBP's step with ``ibp_margins``: no object of auto_LiRPA in sight."""
    made.train()
    made(IMAGES)
    made.eval()
    points = api.pgd(
        lambda x: F.cross_entropy(made(x), LABELS, reduction="none"),
        api.Box.around(IMAGES, EPSILON),
        steps=1,
        step_size=10.0,
        generator=torch.Generator().manual_seed(5),
    )
    made.train()
    adversarial = api.margins_of_logits(made(points), LABELS)
    ibp = api.ibp_margins(made, IMAGES, LABELS, EPSILON, statistics_of=points)
    return api.cc_ibp_loss(adversarial, ibp, ALPHA)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_three_calls_make_the_packages_step(batch_norm: bool) -> None:
    ours, theirs = module(batch_norm), module(batch_norm)
    for _ in range(3):  # the bounder is kept, the weights change under it
        values = loss_by_margins(ours), packages_loss("cc-ibp", theirs)
        torch.testing.assert_close(values[0].detach(), values[1].detach())
        for made, value in zip((ours, theirs), values, strict=True):
            made.zero_grad()
            value.backward()
            with torch.no_grad():
                for weight in made.parameters():
                    assert weight.grad is not None
                    weight -= 0.05 * weight.grad
        expected = theirs.state_dict()
        for key, value in ours.state_dict().items():
            if value.is_floating_point():  # auto_LiRPA does not count batches
                torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6)


class TestIbpMargins:
    def test_by_hand(self) -> None:
        layer = nn.Linear(2, 3, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        x = torch.tensor([[0.5, 0.25]])
        # f0 − f1 = x0 − x1 and f0 − f2 = −x1, each less 0.1 for each weight of 1
        found = api.ibp_margins(layer, x, torch.tensor([0]), 0.1)
        torch.testing.assert_close(found, torch.tensor([[0.05, -0.35]]))

    @pytest.mark.parametrize("training", [True, False])
    def test_mode_and_running_statistics_stay(self, training: bool) -> None:
        made = module(batch_norm=True).train(training)
        before = copy.deepcopy(made.state_dict())
        api.ibp_margins(made, IMAGES, LABELS, EPSILON).sum().backward()
        assert made.training is training
        assert all(each.training is training for each in made.modules())
        assert all(torch.equal(before[key], value) for key, value in made.state_dict().items())

    def test_evaluation_mode_uses_running_statistics(self) -> None:
        made = module(batch_norm=True)
        made(3 * IMAGES)
        made.eval()
        bounder = AutoLirpaBounder(made, (1, 6, 6))
        rows = api.margin_matrix(LABELS, 3)
        expected = bounder.ibp(api.Box.around(IMAGES, EPSILON), rows)
        found = api.ibp_margins(made, IMAGES, LABELS, EPSILON)
        torch.testing.assert_close(found, expected)
        made.train()
        assert not torch.allclose(api.ibp_margins(made, IMAGES, LABELS, EPSILON), expected)

    def test_a_changed_module_is_traced_anew(self) -> None:
        made = module(batch_norm=False)
        first = api.ibp_margins(made, IMAGES, LABELS, EPSILON)
        made[2] = nn.Tanh()  # type: ignore[index]
        second = api.ibp_margins(made, IMAGES, LABELS, EPSILON)
        assert not torch.allclose(first, second)
        expected = api.ibp_margins(copy.deepcopy(made), IMAGES, LABELS, EPSILON)
        torch.testing.assert_close(second, expected)

    def test_a_module_can_be_freed(self) -> None:
        made = module(batch_norm=True)
        api.ibp_margins(made, IMAGES, LABELS, EPSILON).sum().backward()
        seen = weakref.ref(made)
        del made
        gc.collect()
        assert seen() is None

    @pytest.mark.parametrize(
        ("labels", "told"),
        [
            (LABELS[:3], "one for each of 16 images"),
            (LABELS + 1, "classes from 0 to 2; got 1 to 3"),
        ],
    )
    def test_labels_that_do_not_fit(self, labels: Tensor, told: str) -> None:
        with pytest.raises(api.VerifyPipelineError, match=told):
            api.ibp_margins(module(batch_norm=False), IMAGES, labels, EPSILON)
