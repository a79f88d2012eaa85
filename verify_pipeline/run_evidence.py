"""What stands behind a run's verdicts, as far as files that are there tell it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from verify_pipeline import data, onnx
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.questions import AskedQuestion, ask, question_of
from verify_pipeline.certify.records import Record, RunInfo
from verify_pipeline.certify.run_images import pixels_of
from verify_pipeline.certify.specifications import MARGINS
from verify_pipeline.certify.tally import Summary
from verify_pipeline.certify.threats import threats
from verify_pipeline.config import dump_for_others, load_recipe
from verify_pipeline.conversions import choose_device
from verify_pipeline.data import BoxSet, DataSettings, ImageSet
from verify_pipeline.errors import ConfigError, DataError, VerifyPipelineError
from verify_pipeline.page import ClassNames, Gallery, RunEvidence
from verify_pipeline.problem import Counterexample, Status
from verify_pipeline.reporting.pictures import pictures_of
from verify_pipeline.run_folders import (
    LEDGER,
    RECIPE,
    Begun,
    images_of_run,
    own_data,
    read_begun,
)

EXAMINED = 256
"""Open images, at most, whose margins are bounded to tell which class threatens them."""


@dataclass(frozen=True, eq=False)
class Sources:
    """Where evidence is looked for.

    Attributes:
        ledgers: files; networks and recipes are looked for beside them.
        data_root: where data sets are looked for.
        images: of runs that name no known data set.
        class_names: by class; empty: those of the data set.
    """

    ledgers: tuple[Path, ...]
    data_root: Path | None = None
    images: ImageSet | BoxSet | None = None
    class_names: tuple[str, ...] = ()


def ledger_of(run: Path) -> Path:
    """The ledger of a run, which is named by its folder or by the ledger itself.

    Raises:
        ConfigError: the folder holds none.
    """
    if not run.is_dir():
        return run
    if not (run / LEDGER).is_file():
        raise ConfigError(
            f"folder {run}",
            expected=f"a run's folder, with its {LEDGER}",
            got="none",
            remedy="Certify its network first, or name a ledger.",
        )
    return run / LEDGER


def evidence_of(summary: Summary, gallery: Gallery, sources: Sources) -> RunEvidence:
    """Everything that is found of a run.

    Args:
        summary: the run.
        gallery: images of which pixels and counterexamples are shown.
        sources: where to look.

    Raises:
        LedgerError: a counterexample is damaged.
    """
    found = _Finder(summary, sources)
    answers, counterexamples = found.counterexamples(gallery)
    images = found.images()
    asked = None if images is None else found.asked(images)
    pixels = {} if images is None else found.pixels(images, gallery, counterexamples)
    outputs = {} if asked is None else found.outputs(asked, gallery)
    threatened = {} if asked is None else found.threats(asked)
    folder, commands, recipe = found.begun()
    return RunEvidence(
        summary,
        answers,
        threatened,
        counterexamples,
        pixels,
        outputs,
        tuple(dict.fromkeys(found.missing)),
        ClassNames(found.class_names()),
        commands,
        recipe,
        folder,
    )


@dataclass(frozen=True, eq=False)
class _Finder:
    """Looks for the parts of one run's evidence, and notes what is missing.

    Attributes:
        summary: the run.
        sources: where to look.
        missing: sentences on what was not found, and why.
    """

    summary: Summary
    sources: Sources
    missing: list[str] = field(default_factory=list)

    @property
    def info(self) -> RunInfo:
        """The run."""
        return self.summary.info

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those of the ledgers."""
        return tuple(dict.fromkeys(path.parent for path in self.sources.ledgers))

    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; empty where they are not found."""
        name = self.info.run.data_set
        if self.sources.class_names:
            return self.sources.class_names
        try:
            chosen = None if data.knows(name) else own_data(self.folders, name)
            known = chosen or DataSettings(name=name)
            return known.information().class_names
        except VerifyPipelineError:  # no known data set, or its files are gone
            return ()

    def counterexamples(self, gallery: Gallery) -> tuple[dict[int, int], dict[int, Counterexample]]:
        """Classes at all counterexamples, and the counterexamples that are shown."""
        shown = {record.index for record in gallery.counterexamples}
        answers: dict[int, int] = {}
        kept: dict[int, Counterexample] = {}
        falsified = [r for r in self.summary.records if r.status is Status.FALSIFIED]
        for record, found in self._stored(falsified):
            if record.label is not None:
                answers[record.index] = _answer(found, record.label)
            if record.index in shown:
                kept[record.index] = found
        if len(kept) < len(shown):
            self.missing.append(
                "Counterexamples are not shown, since they are in the run's ledger, which was not "
                "named."
            )
        return answers, kept

    def _stored(self, records: Sequence[Record]) -> Iterator[tuple[Record, Counterexample]]:
        left = {(record.index, record.instance): record for record in records}
        for path in self.sources.ledgers:
            with Ledger.existing(path) as ledger:
                held = {
                    (record.index, record.instance)
                    for record in ledger.records(self.info.run)
                    if record.status is Status.FALSIFIED
                }
                for key in held & left.keys():
                    record = left.pop(key)
                    yield record, ledger.counterexample(self.info.run, record)

    def images(self) -> ImageSet | BoxSet | None:
        """The run's images; None: they are not found."""
        run = self.info.run
        try:
            found = images_of_run(
                run,
                self.folders,
                self.sources.data_root,
                self.sources.images,
                download=False,
            )
        except VerifyPipelineError as error:
            # only the name: the message has paths of this machine, and a page is published
            self.missing.append(_not_found(run.data_set, error))
            return None
        if found is None:
            self.missing.append(
                f"There are no pictures: {run.data_set} ({run.split}) is no known data set, and "
                "its images were not given."
            )
        return found

    def pixels(
        self,
        images: ImageSet | BoxSet,
        gallery: Gallery,
        counterexamples: Mapping[int, Counterexample],
    ) -> dict[int, Tensor]:
        """Pixels of the gallery's images that can be shown, beside their counterexamples."""
        if isinstance(images, BoxSet):
            self.missing.append("There are no pictures, as boxes were certified, not images.")
            return {}
        found: dict[int, Tensor] = {}
        refused: list[str] = []
        for record in gallery.all:
            changed = counterexamples.get(record.index)
            try:
                pixels = pixels_of(record, images)
                pictures_of(pixels, None if changed is None else changed.input)
            except DataError as error:
                refused.append(str(error))
                continue
            found[record.index] = pixels
        if refused:
            first = f"{len(refused)} images have no picture. Of the first: {refused[0]}"
            self.missing.append(first)
        return found

    def asked(self, images: ImageSet | BoxSet) -> AskedQuestion | None:
        """The question with its network; None where one of them is not found."""
        path = self._network()
        question = question_of(self.info.run)
        if path is None or question is None:
            what = "its file is not beside a ledger" if path is None else "its question is not kept"
            self.missing.append(
                "Margins at the images, and which class threatens an open image, are not shown: "
                f"they are computed with the network, and {what}."
            )
            return None
        try:
            network = onnx.load_network(path)
            if isinstance(images, ImageSet):  # own labels may leave the last classes out
                images = replace(images, classes=network.outputs)
            indices = [record.index for record in self.summary.records]
            asked = ask(network, images, indices, question, self.info.epsilon or 0.0)
        except VerifyPipelineError as error:
            self.missing.append(f"The network {path.name} is not used for this page: {error}")
            return None
        return asked

    def _network(self) -> Path | None:
        for folder in self.folders:
            for path in sorted(folder.glob("*.onnx")):
                if hashlib.sha256(path.read_bytes()).hexdigest() == self.info.run.network:
                    return path
        return None

    def outputs(self, asked: AskedQuestion, gallery: Gallery) -> dict[int, Tensor]:
        """The file's outputs at the gallery's images."""
        known = set(asked.instances.indices)
        indices = [record.index for record in gallery.all if record.index in known]
        if not indices:
            return {}
        points = asked.instances.batch(indices).points
        return dict(zip(indices, asked.network.replay(points).cpu(), strict=True))

    def threats(self, asked: AskedQuestion) -> dict[int, int]:
        """Which class threatens the open images."""
        unknown = [r.index for r in self.summary.records if r.status is Status.UNKNOWN]
        if not unknown or self.info.run.specification != MARGINS.name:
            return {}
        if len(unknown) > EXAMINED:
            self.missing.append(
                f"Which class threatens an open image was computed of the first {EXAMINED} of "
                f"{len(unknown)} open images."
            )
        try:
            return threats(asked, unknown[:EXAMINED], choose_device())
        except VerifyPipelineError as error:
            self.missing.append(f"Which class threatens an open image is not known: {error}")
            return {}

    def begun(self) -> tuple[Path | None, Mapping[str, str], str]:
        """The folder of the run's training, its command, and its recipe, where they are known."""
        name = self.info.notes.get("recipe", "")
        for folder in self.folders:
            if not (folder / RECIPE).is_file() or not (folder / f"{name}.onnx").is_file():
                continue
            if self._network() != folder / f"{name}.onnx":
                continue
            recipe, kept = load_recipe(folder / RECIPE), read_begun(folder)
            text = dump_for_others(recipe)
            if kept is None:
                return folder, {}, text
            begun = Begun(recipe, kept["source"], kept["set"], kept["device"])
            command = {"Train, export, certify and tabulate": begun.command(Path("runs") / name)}
            return folder, command, text
        return None, {}, ""


def _not_found(data_set: str, error: VerifyPipelineError) -> str:
    """A sentence on images that are not found, without a path of this machine."""
    if data.knows(data_set):
        return (
            f"There are no pictures, as the images are not found: {error.what}. When the page is "
            "made, --data-root or VERIFY_PIPELINE_DATA names their folder."
        )
    return (
        f"There are no pictures, as the images of {data_set} are not where the recipe beside the "
        "ledger says."
    )


def _answer(found: Counterexample, label: int) -> int:
    """The strongest class besides the right one, with which it may tie."""
    outputs = found.output.double().clone()
    outputs[label] = -torch.inf
    return int(outputs.argmax())
