"""Trainings that several processes make as one does: run as a script, one of the processes."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.training.conftest import halves, settings
from verify_pipeline.data import Augmentation, DataSetInfo
from verify_pipeline.errors import ProcessError
from verify_pipeline.process_group import ProcessGroup, joined
from verify_pipeline.training import Silent, train
from verify_pipeline.training.settings import TrainSettings

STEPS = {"epochs": 7, "batch": 32, "milestones": [5], "learning_rate": 2e-3}
"""Of 21 steps, with batches of 32 of the 90 images: the last one of an epoch has 26."""

NORMALISED = {"name": "cnn5", "width": 0.06}
CHANGES: dict[str, dict[str, Any]] = {
    "cc-ibp": {},
    "exp-ibp": {"kind": "exp-ibp"},
    "batch-norm": {"network": NORMALISED},
    "ctbench": {"network": NORMALISED, "batch_norm_policy": "ctbench"},
    "parts": {"optimiser": {**STEPS, "accumulate": 2, "clip": 1.0, "l1": 1e-4}},
    "held-out": {
        "data": {"name": "halves", "validation": 10, "augment": True},
        "watch": {"every": 3},
    },
    "crown-ibp": {"kind": "crown-ibp"},
    "crown-ibp-fused": {"kind": "crown-ibp-fused", "network": NORMALISED},
    "mart": {"kind": "mart", "network": NORMALISED},
    "arow": {"kind": "arow", "network": NORMALISED, "batch_norm_policy": "ctbench"},
    "edac": {
        "network": NORMALISED,
        "loss": {"name": "adversarial", "edac_step": 0.3},
        "optimiser": {**STEPS, "accumulate": 2, "weight_noise": 0.01},
    },
    "everything": {
        "network": NORMALISED,
        "loss": {"name": "mtl-sabr", "edac_step": 0.3, "clean_weight": 0.2},
        "optimiser": {
            **STEPS,
            "accumulate": 2,
            "accumulate_statistics": "batch",
            "weight_noise": 0.01,
        },
        "average": {"kind": "ema", "decay": 0.9, "start": 3},
    },
    "natural": {"kind": "natural"},
    "sgd": {
        "optimiser": {
            **STEPS,
            "name": "sgd",
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.1,
        }
    },
    "one-cycle": {"optimiser": {**STEPS, "milestones": [], "schedule": "one-cycle", "warm_up": 2}},
    "whole-batch": {
        "network": NORMALISED,
        "optimiser": {**STEPS, "accumulate": 2, "accumulate_statistics": "batch"},
    },
    "whole-batch-ctbench": {
        "network": NORMALISED,
        "batch_norm_policy": "ctbench",
        "optimiser": {**STEPS, "accumulate": 3, "accumulate_statistics": "batch"},
    },
    "average": {"network": NORMALISED, "average": {"kind": "ema", "decay": 0.9, "start": 3}},
    "best": {
        "data": {"name": "halves", "validation": 10, "augment": True},
        "watch": {"every": 2},
        "keep": {"best": "validation_ibp", "network": "best"},
        "stop": {"metric": "validation_ibp", "patience": 2},
    },
    "taps": {"kind": "taps"},
    "staps": {
        "loss": {"name": "staps", "relu_shrinkage": 0.8, "taps": {"classifier_relus": 2}},
        "network": NORMALISED,
    },
}
INFO = DataSetInfo("halves", (1, 8, 8), 2, (0.4,), (0.3,), Augmentation(flip=True, padding=1))


def case(name: str) -> TrainSettings:
    return settings(**{"optimiser": STEPS, **CHANGES[name]})


def weights(module: nn.Module) -> Tensor:
    """Parameters and running statistics, without the count of batches, which nothing uses."""
    state = module.state_dict()
    return torch.cat([v.flatten() for v in state.values() if v.is_floating_point()])


def trained(name: str, group: ProcessGroup, folder: Path | None = None) -> dict[str, Any]:
    """The weights and metrics of one case.

    In float64: Adam divides a gradient by its own size, so rounding errors of float32 become steps
    where the gradient itself is 0, such as for a bias before a batch normalisation.
    """
    images = halves().subset(slice(0, 90))
    torch.set_default_dtype(torch.float64)
    try:
        result = train(case(name), images, INFO, folder, group=group)
    finally:
        torch.set_default_dtype(torch.float32)
    return {"weights": weights(result.module), "metrics": result.metrics}


class Stop(Silent):
    """Ends the first process after four epochs; the others lose their connection."""

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        if epoch == 5:
            sys.exit(0)


def resumed(folder: str) -> None:
    """A process of a training that ends after its fourth epoch."""
    torch.set_num_threads(1)
    with joined() as group:
        images = halves().subset(slice(0, 90))
        torch.set_default_dtype(torch.float64)
        with suppress(ProcessError):
            train(case("held-out"), images, INFO, Path(folder), observer=Stop(), group=group)


def main(folder: Path) -> None:
    """All cases, each process's result in a file of its own."""
    torch.set_num_threads(1)
    with joined() as group:
        for name in CHANGES:
            torch.save(trained(name, group), folder / f"{name}-{group.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
