"""The page in a real browser: what it shows, asks for, and does when it is used."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import HOSTILE, LONG, CertifiedRun
from verify_pipeline import api

WIDTHS = (390, 768, 1280, 1600)

CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
function rgba(color) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
}
function over(top, below) {
  return [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3]));
}
function behind(element) {
  const layers = [];
  for (let e = element; e; e = e.parentElement) {
    layers.push(rgba(getComputedStyle(e).backgroundColor));
  }
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
}
function luminance(color) {
  const [r, g, b] = color.map((c) => {
    const s = c / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
  if (["SCRIPT", "STYLE", "OPTION"].includes(element.tagName) || element.closest("svg")) continue;
  const ground = behind(element);
  const ink = over(rgba(getComputedStyle(element).color), ground);
  const [low, high] = [luminance(ink), luminance(ground)].sort((a, b) => a - b);
  found.push([(high + 0.05) / (low + 0.05), walker.currentNode.data.trim().slice(0, 40)]);
}
return found;
"""
"""The contrast of every visible text with what is behind it (WCAG 2.2)."""


@pytest.fixture(scope="module")
def page(certified: CertifiedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    return api.report(
        [certified.folder], path, images=certified.images, class_names=HOSTILE, gallery=4
    )


@pytest.fixture(scope="module")
def long_names(certified: CertifiedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "report.html"
    return api.report(
        [certified.folder], path, images=certified.images, class_names=LONG, gallery=4
    )


@pytest.fixture(scope="module")
def two_runs(certified: CertifiedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that folds its runs, of which the second has one image."""
    first = replace(certified.summary, records=certified.summary.records[:1], asked=None)
    path = tmp_path_factory.mktemp("two") / "report.html"
    return api.report([certified.folder, first], path, images=certified.images, gallery=2)


def opened(browser: Any, page: Path, width: int = 1280, scheme: str = "light") -> Any:
    """The page in a window of that width, with every fold opened; earlier logs are dropped."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())
    browser.execute_script("for (const e of document.querySelectorAll('details')) e.open = true")
    return browser


def texts(browser: Any, column: int) -> list[str]:
    """The cells of a column of the images' table, counted from 1."""
    cells = browser.find_elements("css selector", f".images tbody td:nth-child({column})")
    return [cell.text for cell in cells]


def status(browser: Any) -> str:
    return str(browser.find_element("css selector", "[data-status]").text)


def images_field(browser: Any) -> Any:
    return browser.find_element("css selector", 'input[data-filter="image"]')


def press(browser: Any, heading: str) -> Any:
    """Sort by a column; the heading."""
    (cell,) = browser.find_elements("css selector", f'th[data-column="{heading}"]')
    cell.find_element("tag name", "button").click()
    return cell


def choose(browser: Any, name: str, text: str) -> None:
    field = browser.find_element("css selector", f'select[data-filter="{name}"]')
    (option,) = [o for o in field.find_elements("tag name", "option") if text in o.text]
    option.click()


def test_the_page_asks_for_nothing_and_complains_of_nothing(browser: Any, page: Path) -> None:
    opened(browser, page)
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert page.as_uri() in asked
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    assert browser.get_log("browser") == []
    images = browser.find_elements("tag name", "img")
    assert images
    assert all(image.get_property("naturalWidth") > 0 for image in images)


def test_the_policy_stops_requests_and_foreign_scripts(
    browser: Any, page: Path, tmp_path: Path
) -> None:
    added = '<script>document.title = "taken"</script><img src="https://example.org/a.png">'
    changed = tmp_path / "changed.html"
    text = page.read_text(encoding="utf-8")
    changed.write_text(text.replace("<footer>", f"{added}<footer>"), encoding="utf-8")
    opened(browser, changed)
    assert browser.title != "taken"
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert len([m for m in refused if "Content Security Policy" in m]) == 2


def test_names_of_classes_stay_text(browser: Any, page: Path) -> None:
    opened(browser, page)
    assert browser.find_elements("css selector", "img[src='x'], main b:not(.results b)") == []
    shown = browser.find_element("tag name", "main").text
    assert all(name in shown for name in HOSTILE)
    assert any(HOSTILE[0] in text for text in texts(browser, 2))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_every_text_has_contrast(
    browser: Any, page: Path, width: int, scheme: str
) -> None:
    opened(browser, page, width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    found = browser.execute_script(CONTRASTS)
    assert len(found) > 100
    assert [pair for pair in found if pair[0] < 4.5] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_of_classes_leave_room_for_the_counts(
    browser: Any, long_names: Path, width: int
) -> None:
    opened(browser, long_names, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    regions = browser.execute_script(
        "return [...document.querySelectorAll('.matrices .scroll')]"
        ".map((e) => [e.clientWidth, e.scrollWidth])"
    )
    assert len(regions) == 2
    assert [(shown, whole) for shown, whole in regions if whole > shown] == []
    cells = "return [...document.querySelectorAll('.images td.text')].map((e) => e.offsetWidth)"
    assert max(browser.execute_script(cells)) <= max(0.4 * width, 340) + 1
    assert width > 390 or max(browser.execute_script(cells)) <= 0.4 * width + 1


def test_names_read_from_the_right_keep_to_their_place(browser: Any, long_names: Path) -> None:
    """The number in brackets stands to the right of its name, as with any other name."""
    opened(browser, long_names)
    script = """
    const cell = [...document.querySelectorAll('.matrix tbody th')].at(-1);
    const text = cell.firstChild;
    const left = (place) => {
      const range = document.createRange();
      range.setStart(text, place);
      range.setEnd(text, place + 1);
      return range.getBoundingClientRect().left;
    };
    return [left(text.data.indexOf('\u05d0')), left(text.data.lastIndexOf('2'))];
    """
    name, number = browser.execute_script(script)
    assert name < number


def test_a_card_leaves_no_gap_when_its_neighbour_is_higher(browser: Any, page: Path) -> None:
    opened(browser, page)
    script = """
    const card = document.querySelector('.gallery:not(.triples) > li');
    card.style.height = '900px';
    const words = document.createRange();  // the heading's box may be higher than its words
    words.selectNodeContents(card.querySelector('h4'));
    const pictures = card.querySelector('.pictures');
    return pictures.getBoundingClientRect().top - words.getBoundingClientRect().bottom;
    """
    assert browser.execute_script(script) <= 12


def test_both_schemes_differ(browser: Any, page: Path) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        body = opened(browser, page, scheme=scheme).find_element("tag name", "body")
        grounds.add(body.value_of_css_property("background-color"))
    assert len(grounds) == 2


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


def test_the_keyboard_reaches_the_results_and_sorts(browser: Any, page: Path) -> None:
    opened(browser, page)
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    browser.find_element("tag name", "body").send_keys(keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the results"
    assert skip.value_of_css_property("outline-style") == "solid"
    skip.send_keys(keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "main"
    heading = browser.find_element("css selector", 'th[data-column="image"]')
    button = heading.find_element("tag name", "button")
    button.send_keys(keys.ENTER)
    assert button.value_of_css_property("outline-style") == "solid"
    assert button.value_of_css_property("outline-width") == "3px"
    assert heading.get_attribute("aria-sort") == "descending"
    assert texts(browser, 1)[0] == "79"


def test_a_shown_image_is_reached_from_the_table(browser: Any, page: Path) -> None:
    opened(browser, page)
    link = browser.find_element("css selector", ".images tbody a")
    target = link.get_attribute("href").partition("#")[2]
    link.click()
    assert browser.execute_script("return document.querySelector(':target').id") == target


def test_headings_are_in_order_and_everything_has_a_name(browser: Any, page: Path) -> None:
    opened(browser, page)
    levels = [int(h.tag_name[1]) for h in browser.find_elements("css selector", "h1, h2, h3, h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    for selector in ("button", "select", "input", "a", "svg", "img", "[role=region]", "section"):
        for element in browser.find_elements("css selector", selector):
            assert element.accessible_name, element.get_attribute("outerHTML")[:200]
    assert all(
        t.find_elements("tag name", "caption") for t in browser.find_elements("tag name", "table")
    )
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_it_prints(browser: Any, page: Path) -> None:
    opened(browser, page, scheme="dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.find_element("css selector", ".controls").is_displayed()
    body = browser.find_element("tag name", "body")
    assert body.value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
    assert [pair for pair in browser.execute_script(CONTRASTS) if pair[0] < 4.5] == []


def test_paper_shows_what_is_folded_and_the_window_folds_it_again(
    browser: Any, two_runs: Path
) -> None:
    opened(browser, two_runs)
    browser.refresh()

    def folds() -> list[bool]:
        kept = browser.find_elements("css selector", "details:not(.data)")
        return [bool(each.get_property("open")) for each in kept]

    assert not any(folds())
    browser.find_element("css selector", "#results details summary").click()
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert all(folds())
    assert not browser.find_element("css selector", "details.data").get_property("open")
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert folds().count(True) == 1


def test_cards_on_paper_stand_side_by_side_and_are_not_cut(browser: Any, page: Path) -> None:
    opened(browser, page, width=720)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    for kind, columns in ((".gallery.triples", 3), (".gallery:not(.triples)", 2)):
        gallery = browser.find_element("css selector", kind)
        tops = [card.rect["y"] for card in gallery.find_elements("css selector", "li")]
        assert tops.count(tops[0]) == columns
    for card in browser.find_elements("css selector", ".gallery > li, .funnel, .matrix"):
        assert card.value_of_css_property("break-inside") == "avoid"
