"""Whole trainings against the method written a second time (reference.py), weight by weight."""

from dataclasses import replace
from typing import Any

import pytest

from verify_pipeline.data import Augmentation, DataSetInfo, ImageSet
from verify_pipeline.training import train
from verify_pipeline.training.settings import TrainSettings

from .conftest import settings
from .reference import Reference, flat, initial, ramp

INFO = DataSetInfo(
    "halves", (1, 8, 8), 2, (0.4,), (0.3,), Augmentation(flip=False, padding=1, mode="edge")
)

CHANGES: dict[str, Any] = {
    "network": {"name": "mlp", "width": 0.05},
    "epsilon": {
        "target": 0.05,
        "train_factor": 1.5,
        "attack_epsilon_factor": 1.4,
        "start": 2,
        "length": 2,
    },
    "attack": {"step_size": 0.8},
    "optimiser": {
        "epochs": 5,
        "batch": 24,
        "milestones": [2, 4],
        "decay": 0.3,
        "learning_rate": 2e-3,
        "l1": 1e-3,
        "clip": 0.5,
    },
    "regulariser": {"weight": 0.0},
    "seed": 3,
}
LOSS: dict[str, Any] = {
    "alpha": 0.2,
    "alpha_ramp": {"shape": "linear", "start_value": 0.9, "length": 4},
    "sabr_lambda": 0.3,
}


def check(
    chosen: TrainSettings, images: ImageSet, tolerance: float, info: DataSetInfo = INFO
) -> None:
    """Compare the weights, relative to how far they have moved."""
    start = flat(initial(chosen, info))
    expected = flat(Reference(chosen, info, images).run())
    got = flat(train(chosen, images, info).module)
    moved = float((expected - start).norm())
    assert moved > 0.1
    assert float((got - expected).norm()) < tolerance * moved


METHODS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("ibp", "cc-ibp", "mtl-ibp", "exp-ibp", "sabr", "mtl-sabr"), LOSS),
    **dict.fromkeys(("crown-ibp", "crown-ibp-fused"), LOSS),
    "adversarial": {},
    "mart": {},
    "arow": {"kl_weight": 3.0, "label_smoothing": 0.1},
}


@pytest.mark.parametrize("loss", METHODS)
def test_weights_are_those_of_the_method(loss: str, images: ImageSet) -> None:
    check(settings(**CHANGES, loss={"name": loss, **METHODS[loss]}), images, 1e-5)


@pytest.mark.parametrize("loss", ["ibp", "cc-ibp", "adversarial", "crown-ibp-fused"])
def test_weights_with_a_share_of_the_clean_loss(loss: str, images: ImageSet) -> None:
    ramp = {"shape": "smoothed", "start_value": 0.8, "start": 2, "length": 2}
    chosen = {"name": loss, **METHODS[loss], "clean_weight": 0.3, "clean_ramp": ramp}
    check(settings(**CHANGES, loss=chosen), images, 1e-5)


@pytest.mark.parametrize("loss", ["adversarial", "mart", "cc-ibp"])
def test_weights_with_a_step_against_certainty(loss: str, images: ImageSet) -> None:
    chosen = {"name": loss, **METHODS[loss], "edac_step": 0.5}
    check(settings(**CHANGES, loss=chosen), images, 1e-5)


def test_the_step_against_certainty_has_no_weight_decay(images: ImageSet) -> None:
    decayed = {**CHANGES["optimiser"], "name": "adamw", "weight_decay": 0.5}
    chosen = {"name": "adversarial", "edac_step": 0.5}
    check(settings(**{**CHANGES, "optimiser": decayed}, loss=chosen), images, 1e-5)


@pytest.mark.parametrize("loss", ["ibp", "mart", "taps"])
def test_weights_with_noise_while_gradients_are_taken(loss: str, images: ImageSet) -> None:
    noisy = {**CHANGES, "optimiser": {**CHANGES["optimiser"], "weight_noise": 0.2}}
    check(settings(**noisy, loss={"name": loss}), images, 1e-5 if loss != "taps" else 1e-4)


@pytest.mark.parametrize("loss", ["taps", "staps"])
def test_weights_of_taps_with_a_share_of_the_clean_loss(loss: str, images: ImageSet) -> None:
    # float32 and its signs in attacks: in float64, both agree to 16 digits
    chosen = {"name": loss, **LOSS, "clean_weight": 0.3}
    check(settings(**CHANGES, loss=chosen), images, 5e-4)


@pytest.mark.parametrize("loss", ["crown-ibp", "crown-ibp-fused"])
def test_weights_of_crown_ibp_with_shrunk_relus(loss: str, images: ImageSet) -> None:
    chosen = {"name": loss, **LOSS, "relu_shrinkage": 0.7}
    check(settings(**CHANGES, loss=chosen), images, 1e-4)


@pytest.mark.parametrize("relus", [0, 1, 2])
@pytest.mark.parametrize("loss", ["taps", "staps"])
def test_weights_of_taps(loss: str, relus: int, images: ImageSet) -> None:
    # of three classes, so that two margins are attacked
    taps = {
        "classifier_relus": relus,
        "gradient_weight": 2.5,
        "connector": 0.4,
        "attack": {"steps": 3, "step_size": 0.6},
    }
    chosen = settings(**CHANGES, loss={"name": loss, **LOSS, "taps": taps})
    check(chosen, replace(images, classes=3), 1e-4, replace(INFO, classes=3))


@pytest.mark.parametrize("loss", ["ibp", "sabr", "staps"])
def test_weights_with_shrunk_relus(loss: str, images: ImageSet) -> None:
    chosen = settings(**CHANGES, loss={"name": loss, **LOSS, "relu_shrinkage": 0.7})
    check(chosen, images, 1e-4)


@pytest.mark.parametrize("loss", ["ibp", "mtl-ibp"])
def test_weights_with_the_regulariser(loss: str, images: ImageSet) -> None:
    # no warm-up: in boxes of half-width 1e-6, float32 leaves two digits of the regulariser
    changes = {
        "regulariser": {"weight": 0.3, "tolerance": 0.5},
        "epsilon": {"target": 0.1, "length": 4},
    }
    check(settings(**{**CHANGES, **changes}, loss={"name": loss, **LOSS}), images, 1e-3)


def test_the_reference_ramps_by_hand() -> None:
    # 12 steps, a quarter is 3: x^4 up to 81, slope 108, 81 + 9·108 = 1053 at the end
    assert [ramp(step, 0, 12) for step in (0, 2, 3, 4, 12)] == pytest.approx(
        [0, 16 / 1053, 81 / 1053, 189 / 1053, 1]
    )


def test_augmentation_can_be_switched_off(images: ImageSet) -> None:
    plain = settings(**CHANGES, data={"name": "halves", "augment": False})
    check(plain, images, 1e-5)
    without = flat(train(plain, images, INFO).module)
    assert float((without - flat(train(settings(**CHANGES), images, INFO).module)).norm()) > 1e-2
