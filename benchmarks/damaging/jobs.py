"""The two jobs that are damaged: a certification and a training, small but whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safetensors.torch import load_file

from damaging.processes import run, warm_up
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.training import checkpoint

EPOCHS = 5
RECIPE = f"""\
description: damaged on purpose
train:
  data: {{name: digits}}
  network: {{name: mlp, width: 0.25}}
  loss: {{name: mtl-ibp, alpha: 0.5}}
  epsilon: {{target: 0.05, start: 1, length: 2}}
  optimiser: {{epochs: {EPOCHS}, milestones: [], batch: 64, learning_rate: 5e-3}}
  keep: {{every: 2}}
"""
EPSILON, IMAGES = "0.06", 120

Result = tuple[object, ...]
"""What has to be the same in the end."""


class Job(Protocol):
    """A command, and what it makes in a folder."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def command(self, folder: Path) -> Sequence[str]:
        """Its arguments, for results in a folder."""
        ...

    def result(self, folder: Path) -> Result:
        """What the folder holds.

        Raises:
            VerifyPipelineError: something there is damaged.
        """
        ...


@dataclass(frozen=True)
class Certification:
    """Certifies images by all stages.

    Attributes:
        network: its file.
    """

    network: Path
    name: str = "certification"

    def command(self, folder: Path) -> Sequence[str]:
        """Verdicts go to a ledger in the folder."""
        asked = ("--data", "digits", "--epsilon", EPSILON, "--indices", f":{IMAGES}")
        where = ("--ledger", str(folder / "ledger.sqlite"), "--device", "cpu")
        return ("certify", str(self.network), *asked, *where)

    def result(self, folder: Path) -> Result:
        """Verdicts, reasons and deciding stages of all images."""
        with Ledger.existing(folder / "ledger.sqlite") as ledger:
            (info,) = ledger.runs()
            records = ledger.records(info.run)
            asked = ledger.asked(info.run)
        rows = [(r.index, r.instance, r.status, r.reason, r.stage) for r in records]
        return (asked, *rows)


@dataclass(frozen=True)
class SharedCertification(Certification):
    """The same by two workers, which a driver hands images to."""

    name: str = "certification by two workers"

    def command(self, folder: Path) -> Sequence[str]:
        """As of one process, with workers."""
        return (*super().command(folder), "--jobs", "2")


@dataclass(frozen=True)
class Training:
    """Trains a network for a few epochs.

    Attributes:
        recipe: its file.
    """

    recipe: Path
    name: str = "training"

    def command(self, folder: Path) -> Sequence[str]:
        """Checkpoints and metrics go to the folder."""
        return ("train", str(self.recipe), "--out", str(folder), "--device", "cpu")

    def result(self, folder: Path) -> Result:
        """The bytes of all weights, moments and generators, and the epochs of the metrics."""
        found = checkpoint.read(folder)
        assert found is not None
        digests = [(path.name, _digest(path)) for path in sorted(folder.rglob("*.safetensors"))]
        table = (folder / checkpoint.METRICS).read_text(encoding="utf-8").splitlines()
        return (found.progress.epoch, *digests, len(table))


def _digest(path: Path) -> str:
    """SHA-256 of a file's tensors; its head may tell seconds."""
    sha = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()


@dataclass(frozen=True)
class Prepared:
    """Both jobs with their undisturbed results.

    Attributes:
        certification: of the network that the training made.
        training: of this network.
        results: undisturbed, by the job's name.
        seconds: that the undisturbed job took, by its name.
        log: file for standard error.
    """

    certification: Certification
    training: Training
    results: dict[str, Result]
    seconds: dict[str, float]
    log: Path

    @property
    def jobs(self) -> tuple[Job, Job]:
        """Both."""
        return self.certification, self.training

    def ends_as_undisturbed(self, job: Job, folder: Path, *more: str) -> bool:
        """Give the job's command, and compare."""
        ended = run((*job.command(folder), *more), self.log)
        return ended.code == 0 and job.result(folder) == self.results[job.name]


def prepare(folder: Path) -> Prepared:
    """Both jobs, done once undisturbed in the folder; the second time is measured.

    Raises:
        RuntimeError: one of them fails undisturbed.
    """
    folder.mkdir(parents=True)
    recipe, log = folder / "damaged.yaml", folder / "error.txt"
    recipe.write_text(RECIPE, encoding="utf-8")
    certification, training = Certification(folder / "damaged.onnx"), Training(recipe)
    warm_up(log)
    results, seconds = dict[str, Result](), dict[str, float]()
    for job in (training, certification):
        for name in ("once", "twice"):
            ended = run(job.command(folder / job.name / name), log)
            if ended.code != 0:
                raise RuntimeError(f"the {job.name} fails undisturbed: {ended.error}")
        once, twice = (job.result(folder / job.name / name) for name in ("once", "twice"))
        if once != twice:
            raise RuntimeError(f"two undisturbed {job.name}s differ")
        results[job.name], seconds[job.name] = once, ended.seconds
        if job is training:
            out = ("--out", str(certification.network))
            run(("export", str(folder / job.name / name), *out), log)
    return Prepared(certification, training, results, seconds, log)
