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

from tests.page.by_hand import html_of, of_records
from tests.page.conftest import HOSTILE, LONG, CertifiedRun
from tests.reporting.runs import record, run
from verify_pipeline import api
from verify_pipeline.certify.extents import Extent
from verify_pipeline.errors import ConfigError, LedgerError
from verify_pipeline.page import ClassNames, RunEvidence
from verify_pipeline.page.confusion import LARGEST, confusion, confusions
from verify_pipeline.page.embedded import LARGEST as SIDE
from verify_pipeline.page.embedded import embedded
from verify_pipeline.page.image_rows import image_table
from verify_pipeline.page.numbers import isolated, number_text, rounded, seconds_text
from verify_pipeline.problem import Status


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


def test_a_name_that_is_read_from_the_right_is_isolated() -> None:
    hebrew = LONG[2]
    assert isolated(hebrew) == f"\u2068{hebrew}\u2069"
    assert isolated(f"\u202e{hebrew}\u2069") == f"\u2068{hebrew}\u2069"
    assert isolated("\u202ecat") == "cat"  # nothing turns the words around
    assert [isolated(name) for name in HOSTILE] == [*HOSTILE]
    assert ClassNames((hebrew,)).of(0) == f"\u2068{hebrew}\u2069\N{NO-BREAK SPACE}(0)"


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
