"""Certified training: settings, the loop, schedules, initialisation, checkpoints."""

from verify_pipeline.training.loop import Cascade, Until, train
from verify_pipeline.training.observer import Several, Silent, TensorBoard, TrainObserver
from verify_pipeline.training.settings import TrainSettings
from verify_pipeline.training.trained import Trained, fresh_network, restore, restore_so_far

__all__ = [
    "Cascade",
    "Several",
    "Silent",
    "TensorBoard",
    "TrainObserver",
    "TrainSettings",
    "Trained",
    "Until",
    "fresh_network",
    "restore",
    "restore_so_far",
    "train",
]
