"""Monotonicity in α and translation invariance of each loss, measured along trainings.

    python experiments/properties.py [--epochs 8] [--images 200] [--seeds 3] [--data digits mnist]

Expressive losses (De Palma et al. 2024, arXiv:2305.13991) lie between the adversarial loss (α = 0)
and the IBP loss (α = 1), and increase with α. A constant that is added to all logits changes none
of them. Each follows from z_ibp <= z_adv, so each may fail only by rounding. After every epoch this
script evaluates held-out images and counts what fails. It writes
results/experiments/properties.csv and docs/experiments/properties.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from verify_pipeline import api, data, training
from verify_pipeline.atomic_write import write_all
from verify_pipeline.attacks.pgd import pgd
from verify_pipeline.data import ImageSet
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.losses import cc_ibp_loss, exp_ibp_loss, ibp_loss, mtl_ibp_loss, sabr_box
from verify_pipeline.problem import Box, margin_matrix, margins_of_logits
from verify_pipeline.training import TrainSettings

ROOT = Path(__file__).resolve().parents[1]
EXPRESSIVE = {"CC-IBP": cc_ibp_loss, "MTL-IBP": mtl_ibp_loss, "Exp-IBP": exp_ibp_loss}
TRAINED = ("adversarial", "ibp", "cc-ibp", "mtl-ibp", "exp-ibp", "sabr")
NETWORKS = ("mlp", "conv-small")
EPSILON = 0.1
GRID = torch.linspace(0, 1, 21).tolist()
CONSTANT = 10.0
"""Added to all logits."""

ROUNDING = 1e-5
"""How much a float32 value may be off, relative to the greatest number that it is made of."""


@dataclass(frozen=True)
class Setting:
    """One training.

    Attributes:
        data: the data set.
        network: the architecture.
        loss: that is trained.
        seed: of the training.
    """

    data: str
    network: str
    loss: str
    seed: int


@dataclass(frozen=True)
class Count:
    """How often something was checked, how often it failed, and by how much at most."""

    checked: int
    failed: int
    most: float

    @staticmethod
    def of(excess: Tensor, scale: Tensor) -> Count:
        """Excess over what is right; it fails where it is more than rounding explains."""
        return Count(
            excess.numel(),
            int((excess > ROUNDING * scale).sum()),
            float((excess / scale).max().clamp(min=0)),
        )


def checks(module: nn.Module, images: ImageSet, epsilon: float) -> Iterator[tuple[str, Count]]:
    """All properties at some images: their names and what was counted."""
    pixels, labels = images.pixels(), images.labels
    bounder = AutoLirpaBounder(module, tuple(pixels.shape[1:]))
    rows = margin_matrix(labels, images.classes)
    box = Box.around(pixels, epsilon)
    points = attacked(module, box, labels)
    with torch.no_grad():
        logits = module(points)
        adversarial = margins_of_logits(logits, labels)
        ibp = bounder.ibp(box, rows)
        scale = ibp.abs().amax(1).clamp(min=1)
        yield "bound: z_ibp <= z_adv", Count.of((ibp - adversarial).amax(1), scale)
        for name, loss in EXPRESSIVE.items():
            values = _by_alpha(loss, adversarial.double(), ibp.double())
            size = values.abs().amax(0).clamp(min=1)
            yield f"{name}: increases with α", Count.of(values[:-1] - values[1:], size)
            ends = torch.stack([values[0], values[-1]])
            right = torch.stack(
                [_each(ibp_loss, adversarial.double()), _each(ibp_loss, ibp.double())]
            )
            yield (
                f"{name}: adversarial and IBP loss at its ends",
                Count.of((ends - right).abs(), size),
            )
            moved = margins_of_logits(logits + CONSTANT, labels)
            other = _by_alpha(loss, moved.double(), ibp.double())
            yield f"{name}: unchanged by a constant", Count.of((values - other).abs(), size)
        yield "SABR: increases with λ", _sabr(bounder, pixels, points, epsilon, rows)
        yield "IBP bounds: unchanged by a constant", _moved_bias(module, bounder, box, rows, ibp)


def attacked(module: nn.Module, box: Box, labels: Tensor) -> Tensor:
    """The points of an attack on the cross-entropy, in 20 steps from one random start."""
    return pgd(
        lambda x: F.cross_entropy(module(x), labels, reduction="none"),
        box,
        steps=20,
        step_size=0.1,
        generator=torch.Generator().manual_seed(0),
    )


def _by_alpha(
    loss: Callable[[Tensor, Tensor, float], Tensor], adversarial: Tensor, ibp: Tensor
) -> Tensor:
    """The loss of every image alone at every α, ``A x N``."""
    return torch.stack(
        [
            torch.stack(
                [loss(adversarial[n : n + 1], ibp[n : n + 1], alpha) for n in range(len(ibp))]
            )
            for alpha in GRID
        ]
    )


def _each(loss: Callable[[Tensor], Tensor], margins: Tensor) -> Tensor:
    return torch.stack([loss(margins[n : n + 1]) for n in range(len(margins))])


def _sabr(
    bounder: AutoLirpaBounder, pixels: Tensor, points: Tensor, epsilon: float, rows: Tensor
) -> Count:
    """A small box is contained in every larger one, so its loss is no greater."""
    values = torch.stack(
        [
            _each(ibp_loss, bounder.ibp(sabr_box(pixels, points, epsilon, share), rows).double())
            for share in GRID[1:]
        ]
    )
    return Count.of(values[:-1] - values[1:], values.abs().amax(0).clamp(min=1))


def _moved_bias(
    module: nn.Module, bounder: AutoLirpaBounder, box: Box, rows: Tensor, ibp: Tensor
) -> Count:
    """Bounds of a network whose last bias is greater by a constant."""
    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]
    before = last.bias.clone()
    last.bias += CONSTANT
    moved = bounder.ibp(box, rows)
    last.bias.copy_(before)
    return Count.of((moved - ibp).abs().amax(1), ibp.abs().amax(1).clamp(min=CONSTANT))


def measure(setting: Setting, asked: argparse.Namespace) -> list[dict[str, object]]:
    """One training, with the checks after every epoch."""
    found: list[dict[str, object]] = []

    def watch(module: nn.Module, images: ImageSet) -> dict[str, float]:
        epoch = len({row["epoch"] for row in found}) + 1
        for name, count in checks(module, images, EPSILON):
            row = {**vars(setting), "epoch": epoch, "property": name, **vars(count)}
            found.append(row)
        return {}

    images = api.load_images(setting.data, "train", asked.data_root)
    images = images.subset(slice(0, asked.most))
    training.train(
        settings_of(setting, asked), images, data.info(setting.data), None, cascade=watch
    )
    return found


def settings_of(setting: Setting, asked: argparse.Namespace) -> TrainSettings:
    """A training of so many epochs, with so many held-out images that are watched."""
    recipe = api.load_recipe("digits-cc-ibp").train
    return replace(
        recipe,
        data=replace(recipe.data, name=setting.data, validation=asked.images),
        network=replace(recipe.network, name=setting.network),
        loss=replace(recipe.loss, name=setting.loss, alpha=0.2),
        epsilon=replace(recipe.epsilon, target=EPSILON, start=1, length=asked.epochs // 2),
        optimiser=replace(recipe.optimiser, epochs=asked.epochs, milestones=()),
        watch=replace(recipe.watch, every=1, images=asked.images, cascade_images=asked.images),
        seed=setting.seed,
    )


PAGE = """# Properties of the losses

Expressive losses (De Palma et al. 2024, arXiv:2305.13991) are at least the adversarial loss and at
most the IBP loss, and increase with α. A constant that is added to all logits changes none of them.
SABR increases with λ, because each small box contains the smaller ones. All of this follows from
z_ibp ≤ z_adv in exact arithmetic. Here it is measured with float32 margins, along trainings.

* **Trainings**: {trainings}. Data: {data}. Networks: {network}. Losses: {loss}. Seeds: {seeds}.
* **When**: after each of {epochs} epochs, on {images} held-out images, one by one, with
  ε = {epsilon}.
* **What**: 21 values of α, or 20 of λ. A property fails if it is off by more than {rounding:g} of
  the greatest number involved.

| property | checked | failed | off by at most (relative) |
|---|---:|---:|---:|
{lines}

{reading}

## Between the ends

![Losses against α, from the adversarial to the IBP loss](properties-digits-losses.svg)

All three families join the same ends, but only MTL-IBP does so in a straight line: with the same α,
CC-IBP and Exp-IBP are closer to the adversarial loss. [The losses between their
ends](losses-against-alpha.md) says how far, and how this was measured.

Generated by `{command}`.
"""


def page(frame: pd.DataFrame, asked: argparse.Namespace, command: str) -> str:
    """The reading of what was measured."""
    table = frame.groupby("property", sort=False).agg(
        checked=("checked", "sum"), failed=("failed", "sum"), most=("most", "max")
    )
    failed = int(table["failed"].sum())
    return PAGE.format(
        trainings=len(frame[["data", "network", "loss", "seed"]].drop_duplicates()),
        **{name: ", ".join(frame[name].unique()) for name in ("data", "network", "loss")},
        seeds=asked.seeds,
        epochs=asked.epochs,
        images=asked.images,
        epsilon=EPSILON,
        rounding=ROUNDING,
        lines="\n".join(
            f"| {name} | {checked} | {failures} | {most:.1e} |"
            for name, checked, failures, most in table.itertuples(name=None)
        ),
        reading="Nothing failed: what differs is rounding."
        if failed == 0
        else f"{failed} checks failed; results/experiments/properties.csv says where.",
        command=command,
    )


def main() -> None:
    """Train, count, and write the table and the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--epochs", type=int, default=8)
    add("--images", type=int, default=100, help="held-out images that are evaluated")
    add("--most", type=int, default=3000, help="images of a data set at most")
    add("--seeds", type=int, default=3)
    add("--data", nargs="+", default=["digits", "mnist"])
    add("--networks", nargs="+", default=list(NETWORKS))
    add("--losses", nargs="+", default=list(TRAINED))
    add("--data-root", type=Path, default=None)
    add("--out", type=Path, default=ROOT)
    asked = parser.parse_args()
    rows: list[dict[str, object]] = []
    for setting in (
        Setting(of, network, loss, seed)
        for of in asked.data
        for network in asked.networks
        for loss in asked.losses
        for seed in range(asked.seeds)
    ):
        rows += measure(setting, asked)
        print(setting, file=sys.stderr, flush=True)
    command = " ".join(["python", "experiments/properties.py", *words_of(sys.argv[1:])])
    frame = pd.DataFrame(rows)
    names = ["data", "network", "loss", "epoch", "property"]
    totals = frame.groupby(names, sort=False, as_index=False).agg(
        checked=("checked", "sum"), failed=("failed", "sum"), most=("most", "max")
    )
    text = totals.assign(generated_by=command).to_csv(index=False, lineterminator="\n")
    write_all(
        {
            asked.out / "results" / "experiments" / "properties.csv": text,
            asked.out / "docs" / "experiments" / "properties.md": page(frame, asked, command),
        }
    )


def words_of(words: list[str]) -> list[str]:
    """The command without where data lies and where it writes, which are the machine's."""
    kept, skip = [], False
    for word in words:
        if not skip and word not in ("--data-root", "--out"):
            kept.append(word)
        skip = word in ("--data-root", "--out")
    return kept


if __name__ == "__main__":
    main()
