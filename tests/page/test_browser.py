"""The page in a real browser: what it shows, asks for, and does when it is used."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.page.browsing import opened, texts
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
def long_names(certified: CertifiedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "report.html"
    return api.report(
        [certified.folder], path, images=certified.images, class_names=LONG, gallery=4
    )


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
    for note in browser.find_elements("css selector", "h3 + .note"):
        assert note.value_of_css_property("break-after") == "avoid"
    for card in browser.find_elements("css selector", ".gallery > li, .funnel, .matrix, footer"):
        assert card.value_of_css_property("break-inside") == "avoid"
