"""What a page says of one run: its first numbers, stages and galleries."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.page.by_hand import NONE, html_of, of_records
from tests.reporting.runs import record, run
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.records import Record
from verify_pipeline.page import RunEvidence, chosen
from verify_pipeline.page.gallery import exhibits
from verify_pipeline.page.run_section import run_section
from verify_pipeline.problem import TIED, Reason, Status


def test_the_gallery_takes_each_stage_in_turn_and_leaves_out_wrong_images() -> None:
    stages = ("clean", "attack", "attack", "attack", "crown")
    broken = [replace(record(n, Status.FALSIFIED, "attack"), stage=s) for n, s in enumerate(stages)]
    assert [r.index for r in chosen(of_records(*broken), 3).counterexamples] == [1, 4, 2]


def test_the_hardest_proof_is_of_the_last_stage_the_most_domains_the_least_bound() -> None:
    """Seconds are a share of a batch's: an image that CROWN verified at once may have many."""

    def proof(n: int, stage: str, bound: float, detail: str = "", seconds: float = 1.0) -> Record:
        made = record(n, Status.VERIFIED, "ibp", bound=bound)
        return replace(made, stage=stage, detail=detail, seconds=seconds)

    proofs = [
        proof(0, "ibp", 0.1, seconds=99.0),
        proof(1, "branch-and-bound", 2.0, "9 domains"),
        proof(2, "crown", 0.5),
        proof(3, "crown", 0.2),
        proof(4, "branch-and-bound", 2.0, "31 domains"),
        proof(5, "branch-and-bound", 1.0, "9 domains"),
        proof(6, "input-split", 2.0, "40 parts of its box"),
    ]
    assert [r.index for r in chosen(of_records(*proofs), 9).hardest] == [4, 5, 1, 6, 3, 2, 0]


def test_the_gallery_begins_with_the_hardest_proof_and_the_best_open_bound() -> None:
    proofs = [record(n, Status.VERIFIED, "ibp", bound=b) for n, b in enumerate((3.0, 1.0, 2.0))]
    bounds = (-2.0, None, -0.5)
    unknown = [record(3 + n, Status.UNKNOWN, "crown", bound=b) for n, b in enumerate(bounds)]
    gallery = chosen(of_records(*proofs, *unknown), 2)
    assert [r.index for r in gallery.hardest] == [1, 2]
    assert [r.index for r in gallery.open] == [5, 3]


def test_verdicts_that_rest_on_another_tool_are_not_counted_as_verified() -> None:
    proofs = [record(n, Status.VERIFIED, "ibp", bound=1.0) for n in range(4)]
    claimed = replace(record(4, Status.VERIFIED, "crown"), stage="abcrown")
    section = run_section(RunEvidence(of_records(*proofs, claimed)), NONE, "run-1", "")
    assert [(kind, count) for kind, _, count in section.kinds] == [
        ("verified", 4),
        ("claimed", 1),
    ]
    assert section.tiles[1].value == "80.0 %"


def test_tiles_and_stages_count_images() -> None:
    section = run_section(RunEvidence(run(6, wrong=1, open_=2)), NONE, "run-1", "")
    assert [tile.value for tile in section.tiles[:3]] == ["90.0 %", "60.0 %", "80.0 %"]
    assert [(row.flow.stage, row.flow.entered, row.flow.left) for row in section.funnel] == [
        ("clean", 10, 9),
        ("ibp", 9, 3),
        ("attack", 3, 2),
        ("crown", 2, 2),
    ]
    assert [row.width for row in section.funnel] == [100, 90, 30, 20]
    assert section.reasons == ((Reason.TIMEOUT.value, 2),)


def test_stages_tell_their_seconds_and_shares_of_the_time() -> None:
    """A quarter of a second for each image in each of its stages: 24 of them here."""
    section = run_section(RunEvidence(run(6, wrong=1, open_=2)), NONE, "run-1", "")
    assert [(row.seconds, row.each, row.cost) for row in section.funnel] == [
        ("2.5", "0.25", "41.7"),
        ("2.25", "0.25", "37.5"),
        ("0.75", "0.25", "12.5"),
        ("0.5", "0.25", "8.3"),
    ]
    time = section.tiles[3]
    assert (time.name, time.value, time.note) == ("Time", "6 s", "0.6 s an image")


def test_a_tie_is_no_verified_image() -> None:
    records = [record(n, Status.VERIFIED, "ibp", bound=1.0) for n in range(3)]
    tied = replace(record(3, Status.VERIFIED, "ibp", bound=0.5), detail=TIED)
    section = run_section(RunEvidence(of_records(*records, tied)), NONE, "run-1", "")
    assert [(kind, count) for kind, _, count in section.kinds] == [("verified", 3), ("tied", 1)]
    assert section.tiles[1].value == "75.0 %"
    assert section.more == (0, 4, 0)


def test_the_commonest_reason_comes_first() -> None:
    reasons = [Reason.TIMEOUT, Reason.MEMORY, Reason.MEMORY]
    unknown = [replace(record(n, Status.UNKNOWN, "crown"), reason=r) for n, r in enumerate(reasons)]
    section = run_section(RunEvidence(of_records(*unknown)), NONE, "run-1", "")
    assert section.reasons == ((Reason.MEMORY.value, 2), (Reason.TIMEOUT.value, 1))


def test_one_image_is_written_as_one() -> None:
    text = html_of(of_records(record(0, Status.UNKNOWN, "crown")))
    assert "1 image of mnist" in text
    assert "1 of 1 image open" in text
    assert "1 images" not in text


@pytest.mark.parametrize(("outputs", "margin"), [([3.0, 1.0, 2.5], "0.5"), ([1.0, 4.0, 0], "−3")])
def test_the_clean_margin_is_positive_where_the_network_is_right(
    outputs: list[float], margin: str
) -> None:
    shown = replace(record(0, Status.UNKNOWN, "crown"), label=0)
    evidence = RunEvidence(of_records(shown), outputs={0: torch.tensor(outputs)})
    (exhibit,) = exhibits([shown], evidence)
    assert dict(exhibit.facts)["Clean margin"] == margin.replace("-", "−")


def test_an_unfinished_run_says_so_first_and_has_no_percentages() -> None:
    summary = replace(run(6), asked=Extent.of(range(50)))
    section = run_section(RunEvidence(summary), NONE, "run-1", "")
    assert section.tiles[0].value == "10 of 50"
    assert not any("%" in tile.value for tile in section.tiles)
    text = html_of(summary)
    assert "is not finished: 10 of 50 images decided" in text
    assert text.index("is not finished") < text.index('id="results"')
    assert "is not finished" not in html_of(run(6))
    assert "✓ verified: 6</li>" in text
    assert "✓ verified: 6 (60.0 %)</li>" in html_of(run(6))


def test_several_runs_are_folded_and_one_is_not() -> None:
    assert '<details class="fold">' not in html_of(run(3))
    several = html_of(run(3), run(4, seed=1))
    assert several.count('<details class="fold">') == 2
    assert "seed 0" in several
    assert "seed 1" in several


def test_a_run_of_which_nothing_is_decided_yet_stands_beside_others() -> None:
    begun = replace(run(1, name="begun"), records=(), asked=Extent.of(range(5)))
    text = html_of(run(3), begun)
    assert "No image has a verdict yet." in text
