"""A training loop of one's own, from public functions alone, makes the steps of this package's."""

import copy
import dataclasses
import inspect
import re

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
        generator=torch.Generator().manual_seed(5),
    )
    bounder.train(True)
    adversarial = api.margins_of_logits(bounder.forward(points), LABELS)
    if name == "adversarial":
        return api.adversarial_loss(adversarial)
    if name == "mart":
        return api.mart_loss(clean, adversarial)
    if name == "arow":
        return api.arow_loss(clean, adversarial)
    if name == "sabr":
        small = api.sabr_box(IMAGES, points, EPSILON, SABR_LAMBDA)
        return api.ibp_loss(bounder.ibp(small, rows))
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
    assert functions | {"sabr"} == set(losses.LOSSES)
    for name in api.__all__:
        if name.endswith("_loss"):
            text = inspect.getdoc(getattr(api, name)) or ""
            assert "N x S" in text
            # the last three write their equation out, with the paper
            paper = r"arXiv:\d{4}\.\d{5}\), eq\."
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
