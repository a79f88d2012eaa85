"""The margins of TAPS: between bounds and attacked points, with the statistics of the bounds."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline import losses
from verify_pipeline.attacks.pgd import pgd
from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.errors import ConfigError
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.network import zoo
from verify_pipeline.problem import Box, margin_matrix
from verify_pipeline.process_group import ProcessGroup
from verify_pipeline.training import latent as latent_module
from verify_pipeline.training import train
from verify_pipeline.training.latent import LatentMargins, _rows_of_images
from verify_pipeline.training.settings import AttackSettings, TapsSettings
from verify_pipeline.training.step import LossStep, StepPlan

from .conftest import settings

CLASSES = 4
LABELS = torch.tensor([0, 1, 2, 3, 0, 2])
ROWS = margin_matrix(LABELS, CLASSES)
IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
BOX = Box.around(IMAGES, 0.1)


def chosen(relus: int = 1, weight: float = 1.0, **attack: Any) -> TapsSettings:
    options = {"steps": 6, "step_size": 0.5, **attack}
    return TapsSettings(
        classifier_relus=relus, gradient_weight=weight, attack=AttackSettings(**options)
    )


def network(name: str) -> tuple[nn.Module, AutoLirpaBounder]:
    """In train mode, with the statistics of the images."""
    torch.manual_seed(2)
    module = zoo.build(name, (1, 8, 8), CLASSES, (0.4,), (0.3,), width=0.2)
    bounder = AutoLirpaBounder(module, (1, 8, 8))
    bounder.train(True)
    bounder.forward(IMAGES)
    return module, bounder


def random() -> torch.Generator:
    return torch.Generator().manual_seed(7)


CUTS = [
    *[(name, relus) for name in ("mlp", "conv-small", "cnn5") for relus in range(4)],
    *[("resnet", relus) for relus in (0, 1, 3, 7, 8)],
    ("vit", 2),
]


@pytest.mark.parametrize(("name", "relus"), CUTS)
def test_no_margin_is_below_its_bound(name: str, relus: int) -> None:
    module, bounder = network(name)
    margins = LatentMargins(module, bounder, chosen(relus), random())
    ibp = bounder.ibp(BOX, ROWS)
    found = margins(BOX, ROWS)
    assert found.shape == ibp.shape
    assert bool((found >= ibp - 1e-5 * ibp.abs()).all())


@pytest.mark.parametrize(("name", "relus"), CUTS)
def test_no_point_that_was_seen_has_a_smaller_margin(name: str, relus: int) -> None:
    module, bounder = network(name)
    margins = LatentMargins(module, bounder, chosen(relus, restarts=2), random())
    bounder.ibp(BOX, ROWS)
    outputs: list[Tensor] = []
    *_, last = module.modules()
    last.register_forward_hook(lambda _, __, out: outputs.append(out))
    found = margins(BOX, ROWS)
    seen = [torch.einsum("nk,nk->n", ROWS.flatten(0, 1), out) for out in outputs]
    assert len(seen) == 2 * 7 + 1
    least = torch.stack(seen).min(0).values.view(found.shape)
    torch.testing.assert_close(found, least)


@pytest.mark.parametrize("name", ["mlp", "cnn5", "resnet"])
def test_without_relus_the_margins_and_their_gradients_are_those_of_ibp(name: str) -> None:
    module, bounder = network(name)
    margins = LatentMargins(module, bounder, chosen(0), random())
    ibp = bounder.ibp(BOX, ROWS)
    found = margins(BOX, ROWS)
    torch.testing.assert_close(found, ibp, rtol=1e-4, atol=1e-4)
    parameters = [p for n, p in module.named_parameters() if "bias" not in n]
    ours = torch.autograd.grad(found.sum(), parameters, retain_graph=True)
    theirs = torch.autograd.grad(ibp.sum(), parameters)
    for got, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
        )


@pytest.mark.parametrize(("name", "relus"), [("mlp", 3), ("conv-small", 3), ("vit", 2)])
def test_the_whole_network_is_attacked_at_its_inputs(name: str, relus: int) -> None:
    module, bounder = network(name)
    margins = LatentMargins(module, bounder, chosen(relus), random())
    bounder.ibp(BOX, ROWS)
    found = margins(BOX, ROWS)
    generator, normed = random(), bounder.statistics()
    with latent_module.held(module, normed):
        # the same random starts, one attack for each row
        noise = torch.rand((*ROWS.shape[:2], 1, 8, 8), generator=generator)
        for row in range(CLASSES - 1):

            def margin(x: Tensor, row: int = row) -> Tensor:
                return torch.einsum("nk,nk->n", ROWS[:, row], module(x))

            points = pgd(
                lambda x, margin=margin: -margin(x),
                BOX,
                steps=6,
                step_size=0.5,
                rand=lambda *_, row=row, **__: noise[:, row],
            )
            torch.testing.assert_close(found[:, row], margin(points), rtol=1e-4, atol=1e-4)


def test_by_hand() -> None:
    module = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[0].bias.copy_(torch.tensor([-0.5, 0.5]))
        module[2].weight.copy_(torch.tensor([[-1.0, 1.0], [1.0, 1.0]]))
        module[2].bias.zero_()
        module[4].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.5]]))
        module[4].bias.copy_(torch.tensor([3.0, 0.0]))
    # x in [0.4, 0.7], h = relu(x ∓ 0.5): h_1 in [0, 0.2], h_2 in [0.9, 1.2];
    # f_0 - f_1 = 3 + relu(h_2 - h_1) - 0.5 relu(h_1 + h_2) = 3 + 0.5 h_2 - 1.5 h_1 in this box.
    # inputs: at x = 0.7, 3 + 0.6 - 0.3 = 3.3; at 0.5: 3.5; at 0.4: 3.45
    # latent box of h: 3 + 0.45 - 0.3 = 3.15
    # of the second ReLU, [0.7, 1.2] and [0.9, 1.4]: 3 + 0.7 - 0.7 = 3.0, which is IBP's
    bounder = AutoLirpaBounder(module, (1,))
    box, rows = Box.around(torch.tensor([[0.55]]), 0.15), margin_matrix(torch.tensor([0]), 2)
    torch.testing.assert_close(bounder.ibp(box, rows), torch.tensor([[3.0]]))
    for relus, expected in ((0, 3.0), (1, 3.15), (2, 3.3)):
        margins = LatentMargins(module, bounder, chosen(relus), random())
        bounder.ibp(box, rows)
        torch.testing.assert_close(margins(box, rows), torch.tensor([[expected]]))


class TestStatistics:
    """Attack and margins use the batch's statistics, whatever the policy; none of them moves."""

    @pytest.mark.parametrize("policy", ["paper", "ctbench"])
    def test_of_the_bounds_with_gradients(
        self, policy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        torch.manual_seed(1)
        images, labels = torch.rand(12, 3), torch.arange(12) % 3
        module = nn.Sequential(
            *(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 6), nn.BatchNorm1d(6)),
            *(nn.ReLU(), nn.Linear(6, 3)),
        )
        places = torch.rand(24, 5)
        at: list[Tensor] = []

        def attack(objective: Any, box: Box, **_: Any) -> Tensor:
            at.append(objective(box.lower).detach())
            return box.lower + places * (box.upper - box.lower)

        monkeypatch.setattr(latent_module, "pgd", attack)
        taps = {"classifier_relus": 1, "gradient_weight": 3.0}
        options = settings("taps", loss={"name": "taps", "taps": taps}, batch_norm_policy=policy)
        bounder = AutoLirpaBounder(module, (3,))
        step = LossStep(module, bounder, losses.get("taps"), options, torch.Generator())
        result = step(images, labels, StepPlan(0.1, 1.0, 0.0))
        first, _, second, norm, _, last = module
        rows = margin_matrix(labels, 3)
        box = Box.around(images, 0.1)
        center, radius = first(box.center), box.radius @ first.weight.abs().T
        lower, upper = (center - radius).relu(), (center + radius).relu()
        hidden = second(first(images).relu())
        mean, variance = hidden.mean(0), hidden.var(0, unbiased=False)
        torch.testing.assert_close(norm.running_mean, 0.1 * mean)

        def margin(z: Tensor) -> Tensor:
            normed = (second(z) - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias
            return torch.einsum("nsk,nsk->ns", rows, last(normed.relu()))

        below = lower.unsqueeze(1).expand(12, 2, 5)
        width = (upper - lower).unsqueeze(1)
        torch.testing.assert_close(at[0], -margin(below.detach()).flatten())
        # the connector as coefficients of the sides
        place = places.view(12, 2, 5)
        half = torch.where(width > 0, (1 - 2 * place).clamp_min(0), 0.5).detach()
        other = torch.where(width > 0, (2 * place - 1).clamp_min(0), 0.5).detach()
        above = upper.unsqueeze(1)
        points = (below + place * width).detach()
        points = points + half * (below - below.detach()) + other * (above - above.detach())
        latent = losses.margin_cross_entropy(margin(points)).mean()
        bounder.use_statistics({"3": (mean, variance)})
        ibp = losses.margin_cross_entropy(bounder.ibp(box, rows)).mean()
        torch.testing.assert_close(result.loss, latent * ibp)
        expected = 3.0 * latent * ibp.detach() + latent.detach() * ibp
        weights = [first.weight, second.weight, norm.weight, norm.bias, last.weight]
        for got, wanted in zip(
            torch.autograd.grad(result.loss, weights),
            torch.autograd.grad(expected, weights),
            strict=True,
        ):
            torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)

    def test_none_moves_and_the_mode_stays(self) -> None:
        module, bounder = network("cnn5")
        before = {key: value.clone() for key, value in module.state_dict().items()}
        margins = LatentMargins(module, bounder, chosen(2), random())
        bounder.ibp(BOX, ROWS)
        margins(BOX, ROWS)
        assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
        assert module.training

    def test_in_eval_mode_they_are_the_running_ones(self) -> None:
        module, bounder = network("cnn5")
        bounder.train(False)
        margins = LatentMargins(module, bounder, chosen(4), random())
        bounder.ibp(BOX, ROWS)
        attacked = margins(BOX, ROWS)
        assert not module.training
        images = torch.einsum("nsk,nk->ns", ROWS, module(IMAGES))
        # the attack is over the inputs and has found something, near to what the network gives
        assert bool((attacked <= images + 1e-4).all())
        statistics = bounder.statistics()
        assert torch.equal(statistics["2"][0], module.get_submodule("2").running_mean)
        assert torch.equal(statistics["2"][1], module.get_submodule("2").running_var)


def test_the_attack_is_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    module, bounder = network("mlp")
    seen: list[dict[str, Any]] = []

    def attack(objective: Any, box: Box, **options: Any) -> Tensor:
        seen.append(options)
        return box.lower

    monkeypatch.setattr(latent_module, "pgd", attack)
    generator = random()
    options = {"steps": 3, "step_size": 0.7, "restarts": 2}
    margins = LatentMargins(module, bounder, chosen(**options), generator)
    bounder.ibp(BOX, ROWS)
    margins(BOX, ROWS)
    del seen[0]["rand"]
    assert seen == [{**options, "generator": generator}]


def test_processes_draw_the_rows_of_their_own_images() -> None:
    def drawn(group: ProcessGroup) -> Tensor:
        images = len(range(5)[group.part(5)])
        draw = _rows_of_images(group.rand(5), 3)
        return draw(torch.Size([images * 3, 2]), generator=torch.Generator().manual_seed(0))

    parts = [drawn(ProcessGroup(rank, 2)) for rank in range(2)]
    assert torch.equal(torch.cat(parts), drawn(ProcessGroup()))


EPSILON = {"target": 0.1, "length": 2}


@pytest.mark.parametrize(("name", "before"), [("taps", "ibp"), ("staps", "sabr")])
def test_while_epsilon_grows_another_loss_takes_its_place(name: str, before: str) -> None:
    def value(loss: str, epsilon: float) -> Tensor:
        module, bounder = network("conv-small")
        options = settings(loss, epsilon={**EPSILON, "train_factor": 1.5})
        step = LossStep(module, bounder, losses.get(loss), options, random())
        return step(IMAGES, LABELS, StepPlan(epsilon, 1.0, 0.0)).loss

    for epsilon in (0.0, 0.05, 0.1, 0.149):
        assert torch.equal(value(name, epsilon), value(before, epsilon))
    assert not torch.equal(value(name, 0.1 * 1.5), value(before, 0.1 * 1.5))


def test_with_the_whole_box_staps_is_taps() -> None:
    # without batch normalisation, and where the random starts of the latent attack do not matter
    def step(name: str, share: float) -> Tensor:
        module, bounder = network("mlp")
        loss = {"name": name, "sabr_lambda": share, "taps": {"classifier_relus": 0}}
        options = settings(name, loss=loss, epsilon=EPSILON)
        made = LossStep(module, bounder, losses.get(name), options, random())
        return made(IMAGES, LABELS, StepPlan(0.1, 1.0, 0.0)).loss

    torch.testing.assert_close(step("staps", 1.0), step("taps", 1.0), rtol=1e-4, atol=0)
    assert step("staps", 0.3).item() < 0.9 * step("taps", 0.3).item()


def test_the_latent_cross_entropy_is_measured() -> None:
    module, bounder = network("mlp")
    options = settings("taps", epsilon=EPSILON)
    step = LossStep(module, bounder, losses.get("taps"), options, random())
    measured = step(IMAGES, LABELS, StepPlan(0.1, 1.0, 0.0)).cross_entropies
    clean, latent, ibp = (float(measured[kind]) for kind in ("clean", "latent", "ibp"))
    assert clean < latent < ibp
    growing = step(IMAGES, LABELS, StepPlan(0.05, 1.0, 0.0)).cross_entropies
    assert "latent" not in growing


@pytest.mark.parametrize(
    ("net", "relus", "message"),
    [
        ("conv-small", 4, "got 4, but the network has 3"),
        ("resnet", 2, "got 2: a connection goes past layer"),
        ("vit", 1, r"expected one of 2 \(the whole network\)"),
    ],
)
def test_a_cut_that_there_is_not_is_told_before_training(
    net: str, relus: int, message: str, images: ImageSet, info: DataSetInfo, tmp_path: Any
) -> None:
    loss = {"name": "taps", "taps": {"classifier_relus": relus}}
    wrong = settings("taps", loss=loss, network={"name": net, "width": 0.2})
    with pytest.raises(ConfigError, match=message):
        train(wrong, images, info, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_gradients_are_finite_where_whole_layers_are_dead() -> None:
    module, bounder = network("mlp")
    with torch.no_grad():
        module.get_submodule("4").bias.fill_(-100.0)  # type: ignore[union-attr]
    margins = LatentMargins(module, bounder, chosen(1), random())
    ibp = bounder.ibp(BOX, ROWS)
    loss = losses.taps_loss(margins(BOX, ROWS), ibp)
    loss.backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in module.parameters())
    assert bool(torch.isfinite(F.relu(loss)))
