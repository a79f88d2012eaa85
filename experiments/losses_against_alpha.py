"""The expressive losses between the adversarial and the IBP loss, against α.

    python experiments/losses_against_alpha.py [--data digits] [--epochs 40] [--images 200]

CC-, MTL- and Exp-IBP (De Palma et al. 2024, arXiv:2305.13991) are evaluated with the same network
and images at α from 0 to 1, after the first and after the last epoch of a training. A value of 0 is
the adversarial loss, 1 the IBP loss. This script writes the values to results/experiments/, the
figure and its page to docs/experiments/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from properties import EPSILON, EXPRESSIVE, GRID, ROOT, Setting, attacked, settings_of, words_of
from torch import nn

from verify_pipeline import api, data, training
from verify_pipeline.atomic_write import write_all
from verify_pipeline.data import ImageSet
from verify_pipeline.figures.style import legend_below, new_figure, series_style, styled
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.losses import ibp_loss
from verify_pipeline.problem import Box, margin_matrix, margins_of_logits

MIDDLE = GRID.index(0.5)


@dataclass(frozen=True)
class LossCurves:
    """Losses of one network and some images.

    Attributes:
        adversarial: the adversarial loss, which each family has at α = 0.
        ibp: the IBP loss, which each has at α = 1.
        between: by family, ``(loss - adversarial) / (ibp - adversarial)`` at each α of the grid.
    """

    adversarial: float
    ibp: float
    between: Mapping[str, tuple[float, ...]]


def loss_curves(module: nn.Module, images: ImageSet, epsilon: float) -> LossCurves:
    """The losses of all images as one batch, as a training step computes them."""
    pixels, labels = images.pixels(), images.labels
    box = Box.around(pixels, epsilon)
    points = attacked(module, box, labels)
    bounder = AutoLirpaBounder(module, tuple(pixels.shape[1:]))
    with torch.no_grad():
        adversarial = margins_of_logits(module(points), labels).double()
        ibp = bounder.ibp(box, margin_matrix(labels, images.classes)).double()
    least, most = float(ibp_loss(adversarial)), float(ibp_loss(ibp))
    return LossCurves(
        least,
        most,
        {
            name: tuple(
                (float(loss(adversarial, ibp, alpha)) - least) / (most - least) for alpha in GRID
            )
            for name, loss in EXPRESSIVE.items()
        },
    )


def measured(setting: Setting, asked: argparse.Namespace) -> dict[str, LossCurves]:
    """The curves after the first and after the last epoch of a training."""
    found: list[LossCurves] = []

    def watch(module: nn.Module, images: ImageSet) -> dict[str, float]:
        found.append(loss_curves(module, images, EPSILON))
        return {}

    images = api.load_images(setting.data, "train", asked.data_root)
    settings = settings_of(setting, asked)
    training.train(settings, images, data.info(setting.data), None, cascade=watch)
    return {"after the first epoch": found[0], "after the last epoch": found[-1]}


def draw(curves: Mapping[str, LossCurves]) -> Figure:
    """A panel for each moment, with a line for each family."""
    with styled():
        figure = new_figure("page", 2.4)
        panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
        handles: dict[str, object] = {}
        for axes, (moment, found) in zip(panels, curves.items(), strict=True):
            for place, (name, values) in enumerate(found.between.items()):
                style = series_style(place)
                (handles[name],) = axes.plot(
                    GRID,
                    values,
                    color=style.color,
                    linestyle=style.dash,
                    marker=style.marker,
                    markevery=5,
                    clip_on=False,
                )
            ends = f"adversarial {found.adversarial:.3g}, IBP {found.ibp:.3g}"
            axes.set_title(f"{moment}: {ends}", loc="left")
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            axes.set_xlabel("α")
        panels[0].set_ylabel("loss, from adversarial to IBP")
        legend_below(figure, list(handles.values()), list(handles))
    return figure


PAGE = """# The losses between their ends

![The normalised losses against α after the first and the last epoch]({figure})

CC-, MTL- and Exp-IBP with the same network and images, against α: 0 is the adversarial loss, 1 the
IBP loss. One training: {network} on {data}, {loss} with α = 0.2, {epochs} epochs, seed {seed}.
The losses are of {images} held-out images as one batch, with ε = {epsilon}. All values:
`results/experiments/{table}`.

| | adversarial loss | IBP loss | {families} |
|---|---:|---:|{rules}|
{lines}

The columns of the losses are their places between the ends at α = 0.5.

* MTL-IBP is a straight line by its definition. CC-IBP and Exp-IBP are nowhere above it, as the
  convexity of the loss and the inequality of the means require. All three increase with α, and
  their ends are equal.
* {reading}
* So the same α means different losses in the three families, and at different times of a training.
  With one seed and one network, the figure says nothing of which family certifies more.

Generated by `{command}`.
"""


def page(
    curves: Mapping[str, LossCurves], setting: Setting, asked: argparse.Namespace, command: str
) -> str:
    """The figure with what can be read from it."""
    name = f"properties-{setting.data}-losses"
    lines = [
        f"| {moment} | {found.adversarial:.3g} | {found.ibp:.3g} | "
        + " | ".join(f"{values[MIDDLE]:.2f}" for values in found.between.values())
        + " |"
        for moment, found in curves.items()
    ]
    return PAGE.format(
        figure=f"{name}.svg",
        table=f"{name}.csv",
        families=" | ".join(EXPRESSIVE),
        rules="|".join("---:" for _ in EXPRESSIVE),
        lines="\n".join(lines),
        reading=_reading(curves),
        epochs=asked.epochs,
        images=asked.images,
        epsilon=EPSILON,
        command=command,
        **vars(setting),
    )


def _reading(curves: Mapping[str, LossCurves]) -> str:
    """How far the curved families are from the line, in numbers."""
    first, last = curves.values()
    bent = [
        f"{name} is at {first.between[name][MIDDLE]:.2f} and {last.between[name][MIDDLE]:.2f}"
        for name in EXPRESSIVE
        if name != "MTL-IBP"
    ]
    ratios = [found.ibp / found.adversarial for found in (first, last)]
    return (
        f"At α = 0.5, after the first and the last epoch, {', '.join(bent)} of\n"
        f"  the way. The IBP loss is {ratios[0]:.3g} and {ratios[1]:.3g} times the adversarial one."
    )


def main() -> None:
    """Train, evaluate, and write the values, the figure and the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--data", default="digits")
    add("--network", default="conv-small")
    add("--loss", default="cc-ibp", help="that is trained")
    add("--seed", type=int, default=0)
    add("--epochs", type=int, default=40)
    add("--images", type=int, default=200, help="held-out images that are evaluated")
    add("--data-root", type=Path, default=None)
    add("--out", type=Path, default=ROOT)
    asked = parser.parse_args()
    setting = Setting(asked.data, asked.network, asked.loss, asked.seed)
    command = " ".join(
        ["python", "experiments/losses_against_alpha.py", *words_of(sys.argv[1:])]
    ).strip()
    curves = measured(setting, asked)
    rows = [
        {"moment": moment, "loss": name, "alpha": alpha, "between": value}
        for moment, found in curves.items()
        for name, values in found.between.items()
        for alpha, value in zip(GRID, values, strict=True)
    ]
    table = pd.DataFrame(rows).assign(generated_by=command)
    docs, name = asked.out / "docs" / "experiments", f"properties-{setting.data}-losses"
    write_all(
        {
            asked.out / "results" / "experiments" / f"{name}.csv": table.to_csv(
                index=False, lineterminator="\n", float_format="%.6g"
            ),
            docs / "losses-against-alpha.md": page(curves, setting, asked, command),
        }
    )
    api.save_figure(draw(curves), docs / f"{name}.svg", title="Losses against α", command=command)


if __name__ == "__main__":
    main()
