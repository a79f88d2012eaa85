"""What a reader does with a page in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any


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
