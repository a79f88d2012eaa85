"""What is done with verdicts once they are there: read, tabulated, re-checked, published."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verify_pipeline import onnx
from verify_pipeline.atomic_write import check_folder, write_all
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.certify.questions import AskedQuestion, Question, ask, question_of
from verify_pipeline.certify.recheck import Rechecked, recheck
from verify_pipeline.certify.records import Run, RunInfo
from verify_pipeline.certify.settings import parse_indices, plan
from verify_pipeline.certify.specifications import MARGINS
from verify_pipeline.certify.tally import Summary, summaries, together
from verify_pipeline.config import load_recipe
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import ConfigError, LedgerError
from verify_pipeline.onnx import Network
from verify_pipeline.reporting import Layout, model_card, write_table
from verify_pipeline.reporting.cells import PLAIN
from verify_pipeline.run_folders import LEDGER, RECIPE, Begun, images_of_run, read_begun


def read_ledgers(paths: Sequence[Path]) -> list[Summary]:
    """What ledgers hold: one summary for each run, in order, each image once.

    A run that several ledgers hold parts of, or one ledger that is named twice, makes one summary.

    Raises:
        LedgerError: a file is missing, damaged, no ledger, or holds no verdict; a row has not its
            evidence; or two ledgers hold opposite verdicts.
    """
    found: dict[Run, Summary] = {}
    for path in _each_once(paths):
        with Ledger.existing(path) as ledger:
            held = summaries(ledger)
        if not held:
            raise LedgerError(
                f"ledger {path}",
                expected="verdicts",
                got="none",
                remedy="Let a certification decide something first.",
            )
        for summary in held:
            run = summary.info.run
            known = found.get(run)
            found[run] = together(known, summary, f"ledger {path}") if known else summary
    return list(found.values())


def _each_once(paths: Sequence[Path]) -> list[Path]:
    """Paths, as they were given, of different files."""
    files: dict[str, Path] = {}
    for path in paths:
        files.setdefault(os.path.realpath(path), path)
    return list(files.values())


@dataclass(frozen=True)
class Evidence:
    """What became of a run's counterexamples when they were replayed.

    Attributes:
        info: the run.
        checked: one for each FALSIFIED image and each row that is not of the images; None:
            nothing was checked, as the run is of images that are no known data set and were not
            given, or of a question of which the ledger has a digest only.
    """

    info: RunInfo
    checked: tuple[Rechecked, ...] | None

    def __repr__(self) -> str:
        run = f"{self.info.network_name} on {self.info.run.data_set} {self.info.run.split}"
        if self.checked is None:
            return f"Evidence({run}: not checked)"
        held = sum(each.holds for each in self.checked)
        return f"Evidence({run}: {held} of {len(self.checked)} rows hold)"


def recheck_ledger(
    network: Network | Path | str,
    ledger: Path,
    data_root: Path | None = None,
    images: ImageSet | BoxSet | None = None,
    question: Question | None = None,
) -> list[Evidence]:
    """Replay every counterexample that a ledger holds of a network, against the images anew.

    Args:
        network: the file that the verdicts are of.
        ledger: of the verdicts.
        data_root: where the data sets are looked for.
        images: for the runs of images with this name and split, instead of a data set.
        question: says what the ledger has only a digest of: ε for each pixel, a target for each
            image, or rows.

    Raises:
        LedgerError: the ledger is missing or damaged, or holds no verdict of this very file, or
            none of images that are known.
        DataError: the images are missing, or are not for this network.
    """
    if not isinstance(network, Network):
        network = onnx.load_network(network)
    found = []
    folders = [path.parent for path in (ledger, network.path) if path is not None]
    with Ledger.existing(ledger) as book:
        for info in book.runs():
            if info.run.network != network.digest:
                continue
            chosen = images_of_run(info.run, folders, data_root, images)
            asked = None if chosen is None else _asked(network, chosen, info, question)
            if asked is None:
                found.append(Evidence(info, None))
                continue
            checked = tuple(
                recheck(
                    book, info.run, asked.network.replay, asked.instances, asked.network.input_dtype
                )
            )
            found.append(Evidence(info, checked))
    if not found:
        raise LedgerError(
            f"ledger {ledger}", expected="verdicts of this network file", got="none of it"
        )
    if all(evidence.checked is None for evidence in found):
        unknown = sorted({f"{e.info.run.data_set} {e.info.run.split}" for e in found})
        raise LedgerError(
            f"ledger {ledger}",
            expected="a run of which images and question are known",
            got=f"only runs of {', '.join(unknown)}",
            remedy="Name the arrays that were certified, with --images and --labels, and what else "
            "was read from files.",
        )
    return found


def questions_of_ledger(
    network: Network,
    ledger: Path,
    data_root: Path | None = None,
    images: ImageSet | BoxSet | None = None,
    question: Question | None = None,
) -> list[tuple[RunInfo, AskedQuestion]]:
    """The runs of a ledger about a network whose question is known, asked of the images anew.

    Arguments and errors are those of :func:`recheck_ledger`.
    """
    found = []
    folders = [path.parent for path in (ledger, network.path) if path is not None]
    with Ledger.existing(ledger) as book:
        for info in book.runs():
            if info.run.network == network.digest:
                chosen = images_of_run(info.run, folders, data_root, images)
                asked = None if chosen is None else _asked(network, chosen, info, question)
                if asked is not None:
                    found.append((info, asked))
    return found


def _asked(
    network: Network, images: ImageSet | BoxSet, info: RunInfo, given: Question | None
) -> AskedQuestion | None:
    """What a run asks of all images; None where neither its texts nor ``given`` say it."""
    question = question_of(info.run, given)
    if question is None:
        return None
    asked = ask(network, images, range(len(images)), question, info.epsilon or 0.0)
    said = (info.run.perturbation, info.run.specification)
    return asked if (asked.perturbation, asked.specification) == said else None


def tabulate(
    results: Sequence[Summary],
    folder: Path,
    name: str = "table",
    command: str = "verify_pipeline.api.tabulate",
    layout: Layout = PLAIN,
) -> tuple[Path, ...]:
    """Write the table of some certifications as files; see ``reporting.write_table``.

    Args:
        results: the runs; those that differ in their seed only make one row.
        folder: of the files.
        name: of the files, without ending.
        command: what makes them, as they tell their reader.
        layout: what the table shows.

    Raises:
        DataError: there is nothing to tabulate, or the folder cannot be written.
        ConfigError: a name in the layout is unknown.
    """
    return write_table(results, folder, name, command, layout)


def publish(
    folder: Path,
    models: Path,
    command: str = "verify_pipeline.api.publish",
    *,
    overwrite: bool = False,
    data_root: Path | None = None,
) -> tuple[Path, Path]:
    """Copy the network of a finished :func:`run` into a folder of models, with a card.

    The card has the verdicts of the recipe's own certification: other ε, settings or images that
    the ledger holds, too, are not what the recipe makes.

    Args:
        folder: of the run.
        models: where ``<recipe>.onnx`` and ``<recipe>.md`` go.
        command: what makes them, as the card tells its reader.
        overwrite: whether another network of this name may be replaced.
        data_root: where the data set is looked for, whose images are counted.

    Returns:
        The file's and the card's path.

    Raises:
        VerifyPipelineError: the folder holds no network, or not every verdict of it that the recipe
            or a command asks for; or another network of this name is there.
    """
    begun = _begun(folder)
    name = begun.recipe.name
    network = onnx.load_network(folder / f"{name}.onnx")
    result = _of_recipe(begun, network, folder, data_root)
    content = (folder / f"{name}.onnx").read_bytes()
    file, page = models / f"{name}.onnx", models / f"{name}.md"
    check_folder(models)
    if not overwrite:
        _refuse_another(file, page, content, network.digest)
    commands = {"train": begun.command(folder), "publish": command}
    card = model_card(name, network.metadata, network.digest, [result], commands)
    write_all({file: content, page: card})
    return file, page


def _of_recipe(begun: Begun, network: Network, folder: Path, data_root: Path | None) -> Summary:
    """The finished certification of a run's network that its recipe asks for."""
    recipe = begun.recipe
    run = Run(
        network.digest,
        recipe.train.data.full_name,
        "test",
        LinfBall(recipe.certify.epsilon).name,
        MARGINS.name,
        plan(recipe.certify).digest,
    )
    held = {result.info.run: result for result in read_ledgers([folder / LEDGER])}
    result = held.get(run)
    count = len(recipe.train.data.images("test", data_root))
    wanted = Extent.of(parse_indices(recipe.certify.indices, count))
    if result is not None and result.complete and result.decided.covers(wanted):
        return result
    others = sum(other.network == network.digest for other in held)
    got = f"none, but {others} of other questions or settings" if others else "none"
    if result is not None and result.requested is None:
        got = "a ledger of an older version, which does not note which images were asked for"
    elif result is not None:
        of = len(wanted if result.asked is None else wanted.union(result.asked))
        got = f"those of {len(result.records)} images of {of}"
    raise LedgerError(
        f"ledger {folder / LEDGER}",
        expected=f"verdicts of {recipe.name}.onnx with the recipe's ε and settings, of every image "
        "that the recipe or a command asks for",
        got=got,
        remedy=f"Certify it first: {begun.command(folder)}.",
    )


def _begun(folder: Path) -> Begun:
    """What the run in a folder was begun with; of an older version's run, its whole recipe."""
    if not (folder / RECIPE).is_file():
        raise ConfigError(
            f"folder {folder}",
            expected=f"a finished run, with its {RECIPE}",
            got="none",
            remedy="Make one first: verify-pipeline run RECIPE --out FOLDER.",
        )
    recipe, kept = load_recipe(folder / RECIPE), read_begun(folder)
    if kept is None:
        return Begun(recipe, str(folder / RECIPE), {})
    return Begun(recipe, kept["source"], kept["set"], kept["device"])


def _refuse_another(file: Path, page: Path, content: bytes, digest: str) -> None:
    """Refuse to replace the file, or the card, of another network without being told to."""
    replaced = [file] if file.exists() and file.read_bytes() != content else []
    if page.exists() and digest not in page.read_text(encoding="utf-8", errors="replace"):
        replaced.append(page)
    if replaced:
        raise ConfigError(
            " and ".join(map(str, replaced)),
            expected="none, or of the same network",
            got="another network's",
            remedy="Name another folder with --models, or replace it with --overwrite.",
        )
