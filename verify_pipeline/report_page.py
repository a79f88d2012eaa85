"""The page of some runs: reads verdicts, counterexamples, images and networks, and writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.certify.tally import Summary
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import ConfigError, LedgerError
from verify_pipeline.page import as_page, chosen, report_page
from verify_pipeline.reporting import Layout
from verify_pipeline.reporting.cells import PLAIN
from verify_pipeline.reports import read_ledgers
from verify_pipeline.run_evidence import Sources, evidence_of, ledger_of

GALLERY = 12
"""Images of each kind that the gallery shows."""


def report(
    results: Sequence[Path | str | Summary],
    path: Path | str,
    *,
    title: str = "",
    gallery: int = GALLERY,
    layout: Layout = PLAIN,
    images: ImageSet | BoxSet | None = None,
    class_names: Sequence[str] = (),
    data_root: Path | None = None,
    command: str = "verify_pipeline.api.report",
) -> Path:
    """Write one HTML page of some runs, which needs no other file and makes no request.

    It shows the table of results, figures, the stages with their costs, a gallery of images with
    their counterexamples, which class threatens which, a table of all images, and how to make the
    runs again. What is not found is left out, and the page says why: pictures need the images,
    threats of open images need the network's file beside the ledger, figures need matplotlib.

    Args:
        results: folders of runs, ledgers, or summaries. Of a summary, the page has no pictures of
            counterexamples, since these are in the ledger.
        path: of the page.
        title: of the page; empty: it names the run, or their number.
        gallery: images of each kind that are shown, at most; 0: none.
        layout: of the table of results.
        images: those of the runs that name no known data set.
        class_names: by class; empty: those of the data set, where it has names.
        data_root: where data sets are looked for.
        command: what makes the page, as it tells its reader.

    Returns:
        ``path``.

    Raises:
        LedgerError: a ledger is missing, damaged, or holds no verdict.
        ConfigError: there is no run, an argument is not as it must be, or ``path`` is a file that
            is no page.
        DataError: the page cannot be written.
    """
    _refuse_other_file(Path(path))
    if gallery < 0:
        raise ConfigError("images of the gallery", expected="a number >= 0", got=str(gallery))
    ledgers = [ledger_of(Path(each)) for each in results if not isinstance(each, Summary)]
    given = [each for each in results if isinstance(each, Summary)]
    summaries = [*(read_ledgers(ledgers) if ledgers else []), *given]
    if not summaries:
        raise ConfigError("runs of a page", expected="at least one", got="none")
    if not any(summary.records for summary in summaries):
        raise LedgerError(
            "runs of a page",
            expected="a verdict",
            got="none yet",
            remedy="Let the certification decide something first.",
        )
    sources = Sources(tuple(ledgers), data_root, images, tuple(class_names))
    galleries = [chosen(summary, gallery) for summary in summaries]
    runs = [
        (evidence_of(summary, shown, sources), shown)
        for summary, shown in zip(summaries, galleries, strict=True)
    ]
    return write_whole(Path(path), as_page(report_page(runs, command, title, layout)))


def _refuse_other_file(path: Path) -> None:
    """Refuse to replace what is no page, such as the ledger or the network that it is about."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        begins = file.read(100).lstrip().lower()
    if begins and not begins.startswith(b"<!doctype html"):
        raise ConfigError(
            f"page {path}",
            expected="a new file, or an HTML page to replace",
            got="a file of another kind",
            remedy="Name another file.",
        )
