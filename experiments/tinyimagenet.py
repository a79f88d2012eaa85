"""The recipes of TinyImageNet, each for some steps, and the certification of 100 images.

    python experiments/tinyimagenet.py [--images 256] [--epochs 20] [--data-root …]

TinyImageNet's training images are large to obtain; the validation images are enough to see that
every recipe trains, exports and certifies. The first of them are trained on, and the same ones are
certified: these are no results about other images. Trainings lie in runs/experiments/tinyimagenet/
and are continued by the same command; the table goes to results/experiments/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from verify_pipeline import api, data
from verify_pipeline.certify.tally import Summary
from verify_pipeline.config import Recipe, load_recipe
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import VerifyPipelineError

ROOT = Path(__file__).resolve().parents[1]
DATA = "tinyimagenet"
METHODS = ("cc-ibp", "mtl-ibp", "exp-ibp")


def shortened(method: str, epochs: int) -> Recipe:
    """The recipe of a method in so many epochs: a tenth of them before ε grows, half to grow."""
    warm_up, growing = max(1, epochs // 10), max(1, epochs // 2)
    milestones = [max(1, epochs * 3 // 4), max(1, epochs * 9 // 10)]
    return load_recipe(
        f"{DATA}-1-255-cnn7-{method}",
        {
            "train.optimiser.epochs": f"{epochs}",
            "train.optimiser.batch": "64",
            "train.optimiser.milestones": f"{milestones}",
            "train.epsilon.start": f"{warm_up}",
            "train.epsilon.length": f"{growing}",
        },
    )


def run(recipe: Recipe, images: ImageSet, count: int, timeout: float, folder: Path) -> Summary:
    """Train on the images, export, and certify the first ``count`` of them."""
    trained = api.train(recipe, folder, images=images, progress=True)
    path = folder / f"{recipe.name}.onnx"
    api.export_onnx(trained, path, images=images)
    settings = api.CertifySettings(
        epsilon=recipe.certify.epsilon,
        search=recipe.certify.search,
        timeout=timeout,
        indices=f":{count}",
    )
    return api.certify(path, images, settings, ledger=folder / "ledger.sqlite", progress=True)


def main() -> None:
    """Do what the command line says; exit 2 for a mistake."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--images", type=int, default=256, help="to train on")
    add("--epochs", type=int, default=20)
    add("--certify", type=int, default=100, help="how many of them are certified")
    add("--timeout", type=float, default=20.0, help="seconds for each")
    add("--data-root", type=Path, default=None)
    add("--runs", type=Path, default=ROOT / "runs" / "experiments" / DATA)
    add("--out", type=Path, default=ROOT)
    asked = parser.parse_args()
    try:
        images = data.load(DATA, "test", asked.data_root).subset(slice(0, asked.images))
        found = [
            run(recipe, images, asked.certify, asked.timeout, asked.runs / recipe.name)
            for recipe in (shortened(method, asked.epochs) for method in METHODS)
        ]
        command = (
            f"python experiments/tinyimagenet.py --images {asked.images} --epochs {asked.epochs} "
            f"--certify {asked.certify} --timeout {asked.timeout:g}"
        )
        api.tabulate(found, asked.out / "results" / "experiments", DATA, command)
    except VerifyPipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
