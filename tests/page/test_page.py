"""What a page says, counted by hand, and its HTML without a browser."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from tests.page.conftest import HOSTILE, LONG, CertifiedRun
from tests.reporting.runs import record, run
from verify_pipeline import api
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.records import Record
from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import ConfigError, LedgerError
from verify_pipeline.page import ClassNames, Gallery, RunEvidence, as_page, chosen, report_page
from verify_pipeline.page.confusion import LARGEST, confusion, confusions
from verify_pipeline.page.embedded import LARGEST as SIDE
from verify_pipeline.page.embedded import embedded
from verify_pipeline.page.gallery import exhibits
from verify_pipeline.page.image_rows import image_table
from verify_pipeline.page.numbers import isolated, number_text, rounded, seconds_text
from verify_pipeline.page.run_section import run_section
from verify_pipeline.problem import TIED, Reason, Status

NONE = Gallery((), (), ())


def html_of(*summaries: Summary) -> str:
    runs = [(RunEvidence(summary), NONE) for summary in summaries]
    return as_page(report_page(runs, "verify-pipeline report x"))


def of_records(*records: object) -> Summary:
    """A finished run of these records."""
    return replace(run(1), records=records, asked=Extent.of(range(len(records))))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "text"),
    [(1.23456, "1.235"), (-0.5, "−0.5"), (1e-5, "1e-5"), (12345.0, "1.234e4"), (None, "–")],
)
def test_numbers_have_four_digits_and_a_real_minus(number: float | None, text: str) -> None:
    assert number_text(number) == text.replace("-", "−")


def test_seconds_are_whole_from_a_hundred_on() -> None:
    assert [seconds_text(s) for s in (0.01234, 99.9, 123.4, 12345.6)] == [
        "0.0123",
        "99.9",
        "123",
        "12\N{THIN SPACE}346",
    ]


def test_what_json_cannot_hold_is_no_number() -> None:
    assert rounded(float("nan")) is None
    assert rounded(float("-inf")) is None
    assert rounded(0.123456789) == 0.12346


def test_the_gallery_takes_each_stage_in_turn_and_leaves_out_wrong_images() -> None:
    stages = ("clean", "attack", "attack", "attack", "crown")
    broken = [replace(record(n, Status.FALSIFIED, "attack"), stage=s) for n, s in enumerate(stages)]
    assert [r.index for r in chosen(of_records(*broken), 3).counterexamples] == [1, 4, 2]


def test_a_name_that_is_read_from_the_right_is_isolated() -> None:
    hebrew = LONG[2]
    assert isolated(hebrew) == f"\u2068{hebrew}\u2069"
    assert isolated(f"\u202e{hebrew}\u2069") == f"\u2068{hebrew}\u2069"
    assert isolated("\u202ecat") == "cat"  # nothing turns the words around
    assert [isolated(name) for name in HOSTILE] == [*HOSTILE]
    assert ClassNames((hebrew,)).of(0) == f"\u2068{hebrew}\u2069\N{NO-BREAK SPACE}(0)"


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


def test_a_matrix_counts_pairs() -> None:
    found = confusion("", [(0, 2), (0, 2), (2, 0)], ClassNames(("a", "b", "c")))
    assert [name.partition("\N{NO-BREAK SPACE}")[0] for _, name in found.classes] == ["a", "c"]
    assert found.counts == ((0, 2), (1, 0))
    assert (found.images, found.most, found.rest) == (3, 2, 0)


def test_many_classes_become_a_list_of_pairs_that_says_how_many_are_left() -> None:
    pairs = [(n, n + 1) for n in range(LARGEST + 8)]
    found = confusion("", [*pairs, pairs[7]], ClassNames())
    assert found.counts == ()
    assert found.pairs[0] == ("7", "8", 2)
    assert (len(found.pairs), found.rest) == (15, 5)


def test_images_that_are_wrong_as_they_are_threaten_nobody() -> None:
    summary = of_records(
        record(0, Status.FALSIFIED, "clean"), record(1, Status.FALSIFIED, "attack")
    )
    (found,) = confusions(RunEvidence(summary, answers={0: 5, 1: 6}))
    assert found.pairs == (("1", "6", 1),)


def test_the_table_of_images_writes_words_once_and_classes_by_number() -> None:
    summary = run(3, wrong=1, open_=1, images=11)
    table = image_table(RunEvidence(summary, threats={4: 9}))
    named = {column.name: column for column in table.columns}
    assert named["verdict"].choices == ("✓ verified", "? open", "✗ falsified", "✗ wrong as it is")
    assert table.values["verdict"][:5] == (3, 0, 0, 0, 1)
    assert named["label"].choices == tuple(map(str, range(10)))
    assert named["other"].choices[int(table.values["other"][4] or 0)] == "9"
    assert named["reason"].choices == ("–", "timeout")
    assert table.images == 11


def test_a_run_without_open_images_has_no_column_of_reasons() -> None:
    names = [column.name for column in image_table(RunEvidence(run(10))).columns]
    assert "reason" not in names
    assert "other" not in names


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


class _Addresses(HTMLParser):
    """Everything that a browser could fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            value or "" for name, value in attrs if name.split(":")[-1] in ("src", "href")
        ]


def test_a_page_names_no_address_outside_of_it() -> None:
    text = html_of(run(3), run(4, loss="cc-ibp", seed=1))
    parser = _Addresses()
    parser.feed(text)
    assert parser.found
    assert [a for a in parser.found if not a.startswith(("#", "data:"))] == []
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert "default-src 'none'" in text


def test_markup_in_names_is_escaped_everywhere(certified: CertifiedRun, tmp_path: Path) -> None:
    page = api.report(
        [certified.folder],
        tmp_path / "x.html",
        title=HOSTILE[1],
        images=certified.images,
        class_names=HOSTILE,
        command=HOSTILE[0],
    )
    text = page.read_text(encoding="utf-8")
    assert not any(name in text for name in HOSTILE)
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    embedded_json = re.findall(
        r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL
    )
    (data,) = map(json.loads, embedded_json)
    labels = [c["choices"] for c in data["columns"] if c["name"] in ("label", "other")]
    names = {name.partition("\N{NO-BREAK SPACE}(")[0] for choices in labels for name in choices}
    assert names == {*HOSTILE, "–"}


def test_the_same_ledger_gives_the_same_bytes(certified: CertifiedRun, tmp_path: Path) -> None:
    pages = [
        api.report([certified.folder], tmp_path / name, images=certified.images)
        for name in ("a.html", "b.html")
    ]
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_ten_thousand_images_fit_into_two_megabytes() -> None:
    large = run(8000, wrong=100, open_=500, images=10_000)
    many = tuple(replace(r, bound=0.1234567 * r.index, seconds=1.234567) for r in large.records)
    assert len(html_of(replace(large, records=many)).encode()) < 2_000_000


def test_a_large_picture_is_scaled_down() -> None:
    picture = embedded(torch.zeros(300, 600, 3, dtype=torch.uint8).numpy(), "", "")
    assert (picture.width, picture.height) == (SIDE, SIDE // 2)
    assert picture.address.startswith("data:image/png;base64,")


def test_a_real_run_has_pictures_margins_and_threats(
    certified: CertifiedRun, tmp_path: Path
) -> None:
    page = api.report([certified.folder], tmp_path / "x.html", images=certified.images, gallery=3)
    text = page.read_text(encoding="utf-8")
    falsified = [
        r for r in certified.summary.records if r.status is Status.FALSIFIED and r.stage == "attack"
    ]
    assert text.count("difference ×") == 3
    for each in falsified[:3]:
        assert f"Image {each.index}: class {each.label} →" in text
        assert number_text(each.margin) in text
    assert "Open images: the class whose margin has the least CROWN bound (17)" in text
    assert certified.summary.info.run.network in text
    assert "There are no pictures" not in text


def test_threats_are_the_rows_of_least_bound(certified: CertifiedRun) -> None:
    from verify_pipeline.certify.questions import Question, ask
    from verify_pipeline.certify.threats import threats

    network = api.load_network(certified.folder / "net.onnx")
    unknown = [r.index for r in certified.summary.records if r.status is Status.UNKNOWN]
    asked = ask(network, certified.images, unknown, Question(), 0.06)
    found = threats(asked, unknown, torch.device("cpu"))
    pixels = certified.images.pixels(torch.tensor(unknown)).double()
    labels = certified.images.labels[unknown]
    matrix = api.margin_matrix(labels, 3, torch.float64)
    lower = api.bounds(network, api.Box.around(pixels, 0.06), C=matrix).lower
    for index, label, bounds in zip(unknown, labels.tolist(), lower, strict=True):
        others = [j for j in range(3) if j != label]
        assert found[index] == others[int(bounds.argmin())]


def test_other_images_than_those_certified_are_not_shown(
    certified: CertifiedRun, tmp_path: Path
) -> None:
    others = replace(certified.images, images=1 - certified.images.images)
    text = api.report([certified.folder], tmp_path / "x.html", images=others).read_text("utf-8")
    assert "<img" not in text
    assert "images have no picture. Of the first: image" in text


def test_a_summary_has_a_page_without_counterexamples(
    certified: CertifiedRun, tmp_path: Path
) -> None:
    text = api.report([certified.summary], tmp_path / "x.html").read_text(encoding="utf-8")
    assert "in the run&#39;s ledger, which was not named" in text
    assert "is no known data set" in text


def test_without_matplotlib_the_page_says_so(
    certified: CertifiedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = api.report([certified.folder], tmp_path / "x.html").read_text(encoding="utf-8")
    assert "There are no figures, as matplotlib is not installed" in text
    assert "pip install" in text
    assert "<svg" not in text


def test_nothing_to_show_is_refused(tmp_path: Path) -> None:
    begun = replace(run(1), records=(), asked=Extent.of(range(5)))
    with pytest.raises(LedgerError, match="a verdict"):
        api.report([begun], tmp_path / "x.html")
    with pytest.raises(ConfigError, match="at least one"):
        api.report([], tmp_path / "x.html")
    with pytest.raises(ConfigError, match="gallery"):
        api.report([run(1)], tmp_path / "x.html", gallery=-1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["ledger.sqlite", "recipe.yaml", "notes.txt"])
def test_a_page_replaces_no_file_that_is_none(
    certified: CertifiedRun, tmp_path: Path, name: str
) -> None:
    target = tmp_path / name
    target.write_bytes(b"SQLite format 3\0")
    with pytest.raises(ConfigError, match="expected a new file, or an HTML page to replace"):
        api.report([certified.folder], target)
    assert target.read_bytes() == b"SQLite format 3\0"
