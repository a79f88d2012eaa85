"""Recipes with the numbers of CTBench and CTRAIN: what they say, and that they train and export."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from verify_pipeline import data, losses, pipeline
from verify_pipeline.config import load_recipe, recipe_names
from verify_pipeline.data import ImageSet
from verify_pipeline.onnx import load_network
from verify_pipeline.training import train
from verify_pipeline.training.settings import Ramp, TrainSettings

CTBENCH = [name for name in recipe_names() if name.startswith("ctbench-")]
CTRAIN = [name for name in recipe_names() if name.startswith("ctrain-")]

# CTBench's scripts, written out a second time on purpose: ε, batch, epochs, milestones, (start,
# length), factor of ε, λ of the regulariser.
SETS = {
    "mnist-0.1": (0.1, 256, 70, (50, 60), (1, 20), 2.0, 0.5),
    "mnist-0.3": (0.3, 256, 70, (50, 60), (1, 20), 1.0, 0.5),
    "cifar10-2-255": (2 / 255, 128, 160, (120, 140), (2, 80), 1.0, 0.5),
    "cifar10-8-255": (8 / 255, 128, 240, (200, 220), (2, 120), 1.0, 0.5),
    "tinyimagenet-1-255": (1 / 255, 128, 160, (120, 140), (2, 80), 1.0, 0.2),
}
# L1, and 1 minus the weight of the robust loss.
WEIGHTS = {
    "mnist-0.1": {
        "ibp": (2e-6, 0.3),
        "mtl-ibp": (1e-5, 0.3),
        "sabr": (1e-6, 0.3),
        "mart": (1e-6, 0),
    },
    "mnist-0.3": {
        "ibp": (2e-6, 0.3),
        "crown-ibp": (1e-6, 0.3),
        "edac": (5e-6, 0),
        "sabr": (2e-6, 0),
    },
    "cifar10-2-255": {"ibp": (1e-6, 0.2), "mtl-ibp": (3e-6, 0.1), "crown-ibp": (3e-6, 0)},
    "cifar10-8-255": {"ibp": (0, 0), "mtl-ibp": (0, 0), "pgd": (1e-6, 0), "sabr": (0, 0)},
    "tinyimagenet-1-255": {"cc-ibp": (5e-5, 0.3), "ibp": (1e-5, 0), "crown-ibp": (2e-5, 0)},
}


@pytest.mark.parametrize(("row", "method"), [(row, m) for row, ms in WEIGHTS.items() for m in ms])
def test_recipes_say_what_ctbench_says(row: str, method: str) -> None:
    network = "conv-small" if method == "mart" else "cnn7"
    recipe = load_recipe(f"ctbench-{row}-{network}-{method}")
    train_, adversarial = recipe.train, method in ("edac", "pgd", "mart")
    optimiser, epsilon, regulariser = train_.optimiser, train_.epsilon, train_.regulariser
    found = (
        epsilon.target,
        optimiser.batch,
        optimiser.epochs,
        optimiser.milestones,
        (epsilon.start, epsilon.length),
        epsilon.train_factor,
    )
    assert found == SETS[row][:-1]
    assert (optimiser.l1, train_.loss.clean_weight) == WEIGHTS[row][method]
    assert regulariser.weight == (0 if adversarial else SETS[row][-1])
    assert regulariser.ibp_init is not adversarial
    assert (optimiser.learning_rate, optimiser.decay, optimiser.clip) == (5e-4, 0.2, 10.0)
    assert recipe.certify.epsilon == SETS[row][0]


@pytest.mark.parametrize("name", CTBENCH)
def test_ctbenchs_recipes_use_its_statistics_and_say_their_script(name: str) -> None:
    path = Path(pipeline.__file__).with_name("recipes") / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    assert re.search(r"^# Numbers of scripts/examples/\S+\.sh\.$", text, re.MULTILINE)
    train_ = load_recipe(name).train
    assert train_.batch_norm_policy == "ctbench"
    attack = train_.attack
    if losses.get(train_.loss.name).needs_attack and train_.loss.name not in ("sabr", "staps"):
        assert attack.step_size == max(0.25, 2 / attack.steps)


# ReLUs of the classifier (from block sizes), weight of its gradient, steps in the latent box and
# their size in half-widths, λ, c, factor of ε, L1, and 1 minus the weight of the robust loss.
TAPS = {
    "mnist-0.1-cnn7-taps": (3, 4, 10, 0.4, None, 1, 2.0, 2e-6, 0.3),
    "mnist-0.1-cnn7-staps": (1, 4, 10, 0.4, 0.4, 1, 2.0, 5e-6, 0.3),
    "mnist-0.3-cnn7-taps": (2, 4, 5, 0.8, None, 1, 4 / 3, 0, 0),
    "mnist-0.3-cnn7-staps": (1, 4, 10, 0.4, 0.6, 1, 1.0, 1e-5, 0),
    "cifar10-2-255-cnn7-taps": (5, 4, 8, 0.5, None, 0.8, 1.0, 2e-6, 0),
    "cifar10-2-255-cnn7-staps": (1, 2, 8, 0.5, 0.1, 0.8, 1.0, 1e-6, 0),
    "cifar10-8-255-cnn7-taps": (1, 2, 10, 0.4, None, 1, 1.0, 0, 0),
    "cifar10-8-255-cnn7-staps": (1, 2, 10, 0.4, 0.9, 1, 1.0, 0, 0),
    "tinyimagenet-1-255-cnn7-taps": (1, 8, 1, 4.0, None, 1, 1.0, 5e-5, 0.3),
    "tinyimagenet-1-255-cnn7-staps": (1, 4, 1, 4.0, 0.6, 1, 1.0, 5e-5, 0),
}
LAYERS = {5: "4 17", 3: "10 11", 2: "13 8", 1: "17 4"}
"""Block sizes of CTBench: of layers of its CNN7, of which so many ReLUs are in the second block."""


@pytest.mark.parametrize("name", TAPS)
def test_recipes_of_taps_say_what_ctbench_says(name: str) -> None:
    train_ = load_recipe(f"ctbench-{name}").train
    loss, relus, row = train_.loss, train_.loss.taps.classifier_relus, name.rpartition("-cnn7")[0]
    assert (
        relus,
        loss.taps.gradient_weight,
        loss.taps.attack.steps,
        loss.taps.attack.step_size,
        loss.sabr_lambda if loss.name == "staps" else None,
        loss.relu_shrinkage,
        train_.epsilon.train_factor,
        train_.optimiser.l1,
        loss.clean_weight,
    ) == TAPS[name]
    assert (loss.taps.connector, loss.taps.attack.restarts) == (0.5, 3)
    assert train_.regulariser.weight == SETS[row][-1]


@pytest.mark.parametrize("relus", LAYERS)
def test_block_sizes_are_of_all_layers(relus: int) -> None:
    # normalisation; five convolutions with batch normalisation and ReLU; flattening; the end
    kinds = [*"n", *"cbr" * 5, *"f", *"lbr", *"l"]
    before, behind = map(int, LAYERS[relus].split())
    assert before + behind == len(kinds)
    assert kinds[before:].count("r") == relus


def test_sabr_at_the_small_epsilon_shrinks_relus() -> None:
    train_ = load_recipe("ctbench-cifar10-2-255-cnn7-sabr").train
    assert (train_.loss.sabr_lambda, train_.loss.relu_shrinkage) == (0.1, 0.8)
    assert (train_.epsilon.train_factor, train_.optimiser.l1) == (1.5, 1e-6)


@pytest.mark.parametrize("name", ["sabr", "taps", "staps"])
def test_ctrains_defaults(name: str) -> None:
    train_ = load_recipe(f"ctrain-defaults-cifar10-2-255-cnn7-{name}").train
    loss, taps = train_.loss, train_.loss.taps
    if name != "taps":
        assert loss.sabr_lambda == {"sabr": 0.2, "staps": 0.8}[name]
        assert (train_.attack.steps, train_.attack.step_size) == (8, 0.5)
    if name != "sabr":
        assert (taps.attack.steps, taps.attack.step_size) == (8, 0.5)
        assert (taps.gradient_weight, taps.connector) == (5, 0.5)


def test_ctrains_weights_follow_epsilon() -> None:
    loss = load_recipe("ctrain-cifar10-8-255-cnn7-crown-ibp").train.loss
    ramp = Ramp(shape="smoothed", start_value=1.0, start=3, length=111)
    assert loss.alpha_ramp == ramp
    assert loss.clean_ramp == replace(ramp, start_value=0.744637)
    for name in CTRAIN:
        train_ = load_recipe(name).train
        for each in (train_.loss.alpha_ramp, train_.loss.clean_ramp):
            if each.shape == "smoothed":
                assert (each.start, each.length) == (train_.epsilon.start, train_.epsilon.length)


def two_steps(settings: TrainSettings) -> TrainSettings:
    """One epoch of two batches of eight images, of a narrow network, at the full ε."""
    constant = Ramp()
    loss = replace(settings.loss, alpha_ramp=constant, clean_ramp=constant)
    return replace(
        settings,
        network=replace(settings.network, width=0.05),
        loss=loss,
        average=replace(settings.average, start=1),
        epsilon=replace(settings.epsilon, start=1, length=0),
        optimiser=replace(settings.optimiser, epochs=1, batch=8, milestones=()),
    )


@pytest.mark.parametrize("name", [*CTBENCH, *CTRAIN])
def test_two_steps_and_a_file(name: str, tmp_path: Path) -> None:
    settings = two_steps(load_recipe(name).train)
    info = data.info(settings.data.name)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (16, *info.shape), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, info.classes, (16,), generator=generator)
    images = ImageSet(info.name, "train", pixels, labels, info.classes)
    trained = train(settings, images, info)
    (row,) = trained.metrics
    assert row["epsilon"] == settings.epsilon.target * settings.epsilon.train_factor
    pipeline.export_onnx(trained, tmp_path / "net.onnx", images=images)
    network = load_network(tmp_path / "net.onnx")
    assert network.graph.nodes[-1].shape == (info.classes,)
