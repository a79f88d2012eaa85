"""What a forecast says in words: what does not fit, what is missing, what a range is."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.certify.test_ledger import INFO
from verify_pipeline.cli.forecast_text import COLUMNS, forecast_rows, lines
from verify_pipeline.planning.certification import CertificationForecast, Conditions
from verify_pipeline.planning.estimates import Cost
from verify_pipeline.planning.machine import Capacity
from verify_pipeline.planning.sampling import Measured, MeasuredImage
from verify_pipeline.problem import StageResult, Status, Verdict

GIB = 1 << 30
VERIFIED = Verdict(Status.VERIFIED, "ibp", 2.0, bound=1.0, stages=(StageResult("ibp", 2.0),))
MACHINE = Capacity(memory=23 * GIB, free=20 * GIB, cores=2, threads=2)
CONDITIONS = Conditions(60.0, 2 * GIB, Path("l.sqlite"), 1 << 40, MACHINE, 1, 4.0)


def sample(count: int, opened: int = 0) -> Measured:
    """Images of 2 s each, and some without a verdict after 1 s."""
    images = [MeasuredImage(index, Cost(2.0, 2.0), VERIFIED) for index in range(count)]
    images += [MeasuredImage(count + index, Cost(1.0, 60.0), None) for index in range(opened)]
    return Measured(tuple(images), 2.0 * count, 1000 * count, GIB, 5 * GIB // 2, None)


def told(measured: Measured | None, conditions: Conditions = CONDITIONS, asked: int = 100) -> str:
    known = {} if measured is not None else {"verified": asked}
    found = CertificationForecast(INFO, asked, known, measured, conditions)
    text = list(lines(forecast_rows(found)))
    assert max(map(len, text)) <= COLUMNS
    return "\n".join(text)


def said(text: str, words: str) -> bool:
    return words in " ".join(text.split())


def test_equal_images_take_what_they_took() -> None:
    """4 s and 100 times 2 s; 80 others, of which 1 - 0.05^(1/20) may be harder: 11 of 60 s."""
    text = told(sample(20))
    assert said(text, "time about 3.4 min for 100 images (95 %)")
    assert said(text, "at most 13.9 % of the others (95 %), which add at most 11 min")
    assert said(text, "an image 2 s (95 %: 2 s to 2 s)")
    assert said(text, "by stage ibp 2 s")
    assert said(text, "A worker is one process with 2 threads, as measured, which takes images")
    assert said(text, "ledger about 98 KiB more, 1,000 bytes an image; 1.0 TiB free there")


def test_workers_that_do_not_fit_are_named() -> None:
    """16 times 2.5 GiB; the next smaller number of the table does fit."""
    text = told(sample(20))
    assert said(text, "16 workers need 40 GiB; this machine has 23 GiB: --jobs 9 at most")
    assert said(text, "processes that fit: 9 as measured, 7 if each takes what the settings allow")
    twelve = told(sample(20), replace(CONDITIONS, jobs=12))
    assert said(twelve, "12 workers need 30 GiB; this machine has 23 GiB: --jobs 9 at most")
    large = replace(MACHINE, memory=1000 * GIB)
    assert "workers need" not in told(sample(20), replace(CONDITIONS, machine=large))


def test_a_batch_that_does_not_fit_is_named() -> None:
    text = told(sample(20), replace(CONDITIONS, batch=30 * GIB))
    assert said(text, "with a batch of 30 GiB, a process needs 31 GiB: it does not fit")


def test_a_ledger_that_does_not_fit_is_named() -> None:
    text = told(sample(20), replace(CONDITIONS, room=50_000))
    assert said(text, "the ledger needs 98 KiB; its folder has 49 KiB: it does not fit")


def test_rows_of_a_few_verdicts_are_not_measured() -> None:
    """They fit into the pages that an empty ledger has."""
    text = told(replace(sample(3), ledger=0))
    assert said(text, "ledger 3 images with a verdict: too few to measure its size; 1.0 TiB free")


def test_a_small_sample_says_at_least() -> None:
    text = told(sample(10))
    assert said(text, "time at least 24 s for 100 images; at most 1.7 h, if each takes all")
    assert said(text, "the sample is too small to say more: give --measure more seconds")
    assert said(text, "an image 2 s; too few were measured for an interval")
    assert said(told(sample(9, opened=1)), "an image not known; too few were measured")


def test_open_images_make_ranges() -> None:
    text = told(sample(20, opened=5))
    assert said(text, "5 had no verdict when their time was over and may take up to 60 s each")
    assert "harder ones" not in text
    (row,) = (line for line in text.splitlines() if line.startswith("verified"))
    assert row.endswith("(95 %)")
    assert " to " in row


def test_nothing_left() -> None:
    text = told(None)
    assert said(text, "time nothing is left to do")
    assert said(text, "verified 100.0 %")
    assert "workers" not in text


@pytest.mark.parametrize("change", [{"memory": None}, {"free": None}])
def test_what_a_machine_does_not_tell_is_left_out(change: dict[str, None]) -> None:
    machine = replace(MACHINE, **change)
    text = told(sample(20), replace(CONDITIONS, machine=machine, start=None, room=None))
    assert said(text, "how long it takes to start is not known")
    assert "None" not in text
