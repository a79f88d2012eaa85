"""The table of all images in a real browser: sorted, filtered, turned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.page.browsing import choose, images_field, opened, press, status, texts
from tests.page.conftest import CertifiedRun


def test_headings_sort(browser: Any, page: Path, certified: CertifiedRun) -> None:
    opened(browser, page)
    assert texts(browser, 1) == [str(n) for n in range(25)]
    by_seconds = sorted(
        certified.summary.records, key=lambda r: (-float(f"{r.seconds:.3g}"), r.index)
    )
    assert press(browser, "seconds").get_attribute("aria-sort") == "ascending"
    assert press(browser, "seconds").get_attribute("aria-sort") == "descending"
    assert texts(browser, 1) == [str(r.index) for r in by_seconds[:25]]
    image = browser.find_element("css selector", 'th[data-column="image"]')
    assert image.get_attribute("aria-sort") == "none"


def test_images_without_a_value_come_last_in_both_directions(browser: Any, page: Path) -> None:
    opened(browser, page)
    browser.find_element("css selector", "[data-rows] option:last-child").click()
    for _ in range(2):
        place = browser.execute_script("return arguments[0].cellIndex", press(browser, "bound")) + 1
        shown = texts(browser, place)
        missing = shown.count("–")
        assert len(shown) == 80
        assert 0 < missing < len(shown)
        assert set(shown[-missing:]) == {"–"}


def test_fields_filter_and_the_reset_shows_all(
    browser: Any, page: Path, certified: CertifiedRun
) -> None:
    opened(browser, page)
    wrong = [str(r.index) for r in certified.summary.records if r.stage == "clean"]
    choose(browser, "verdict", "wrong")
    assert texts(browser, 1) == wrong
    assert status(browser) == f"Rows 1 to {len(wrong)} of {len(wrong)} images of 80."
    field = images_field(browser)
    field.send_keys("10-25, 40")
    assert texts(browser, 1) == [n for n in wrong if 10 <= int(n) <= 25 or n == "40"]
    field.send_keys(" x")
    assert field.get_attribute("aria-invalid") == "true"
    assert "takes numbers and spans" in status(browser)
    browser.find_element("css selector", "[data-reset]").click()
    assert status(browser) == "Rows 1 to 25 of 80 images."


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("20-18", ["18", "19", "20"]),
        ("18 - 20; 3", ["3", "18", "19", "20"]),
        ("18:20", ["18", "19"]),  # as --indices counts
        ("7", ["7"]),
    ],
)
def test_spans_of_images_are_read_as_they_are_meant(
    browser: Any, page: Path, typed: str, shown: list[str]
) -> None:
    opened(browser, page)
    images_field(browser).send_keys(typed)
    assert texts(browser, 1) == shown
    rows = "Row 1" if len(shown) == 1 else f"Rows 1 to {len(shown)}"
    images = "1 image" if len(shown) == 1 else f"{len(shown)} images"
    assert status(browser) == f"{rows} of {images} of 80."


@pytest.mark.parametrize("typed", ["20:18", "18:18", "1-2-3", "-5", "x"])
def test_a_text_that_is_no_span_says_what_is_expected(browser: Any, page: Path, typed: str) -> None:
    opened(browser, page)
    images_field(browser).send_keys(typed)
    assert images_field(browser).get_attribute("aria-invalid") == "true"
    assert "takes numbers and spans, such as 7, 20-29 or 20:30 (without 30)." in status(browser)
    assert len(texts(browser, 1)) == 25


def test_a_filter_shows_its_first_page(browser: Any, page: Path) -> None:
    opened(browser, page)
    browser.find_element("css selector", '[data-page="1"]').click()
    assert texts(browser, 1)[0] == "25"
    # at once: while it is typed, "1" alone has a single page
    pasted = "arguments[0].value = '10-70'; arguments[0].dispatchEvent(new Event('input'))"
    browser.execute_script(pasted, images_field(browser))
    assert texts(browser, 1)[0] == "10"
    assert status(browser) == "Rows 1 to 25 of 61 images of 80."


def test_one_image_is_called_one_image(browser: Any, two_runs: Path) -> None:
    opened(browser, two_runs)
    told = [each.text for each in browser.find_elements("css selector", "[data-status]")]
    assert told == ["Rows 1 to 25 of 80 images.", "Row 1 of 1 image."]


def test_pages_turn_and_end(browser: Any, page: Path) -> None:
    opened(browser, page)
    before, after = (
        browser.find_element("css selector", f'[data-page="{step}"]') for step in (-1, 1)
    )
    assert before.get_attribute("aria-disabled") == "true"
    assert after.get_attribute("aria-disabled") == "false"
    for _ in range(4):
        after.click()
    assert texts(browser, 1) == [str(n) for n in range(75, 80)]
    assert before.get_attribute("aria-disabled") == "false"
    assert after.get_attribute("aria-disabled") == "true"
    assert browser.switch_to.active_element == after  # a disabled button would lose the focus
    assert "Page 4 of 4" in browser.find_element("css selector", ".pager").text


def test_the_script_writes_numbers_as_the_page_without_it(browser: Any, page: Path) -> None:
    opened(browser, page)
    scripted = [[c.text for c in row.find_elements("tag name", "td")] for row in rows(browser)]
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.as_uri())
        static = [[c.text for c in row.find_elements("tag name", "td")] for row in rows(browser)]
        assert not browser.find_element("css selector", ".controls").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert static == scripted


def rows(browser: Any) -> list[Any]:
    return list(browser.find_elements("css selector", ".images tbody tr"))


def test_a_shown_image_is_reached_from_the_table(browser: Any, page: Path) -> None:
    opened(browser, page)
    link = browser.find_element("css selector", ".images tbody a")
    target = link.get_attribute("href").partition("#")[2]
    link.click()
    assert browser.execute_script("return document.querySelector(':target').id") == target
