"""Certified training: settings, the loop, schedules, initialisation, checkpoints."""

from verify_pipeline.training.loop import Cascade, Trained, train
from verify_pipeline.training.observer import Several, Silent, TensorBoard, TrainObserver
from verify_pipeline.training.restore import restore
from verify_pipeline.training.settings import TrainSettings

__all__ = [
    "Cascade",
    "Several",
    "Silent",
    "TensorBoard",
    "TrainObserver",
    "TrainSettings",
    "Trained",
    "restore",
    "train",
]
