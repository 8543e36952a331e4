"""A person opens a report: on a screen, on a telephone, on paper, in a headless Chromium that may not load anything."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.large_study import store_large_study
from vbot_campaign.exporters.report import write_report
from vbot_campaign.paths import CampaignPaths

pytest.importorskip("selenium", reason="pip install selenium")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the PATH"),
]

FLAGS = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "disable-dev-shm-usage",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "no-proxy-server",
    "hide-scrollbars",
    "window-size=1200,1400",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write the report of a study of sixty trials and return its address."""
    paths = CampaignPaths(tmp_path_factory.mktemp("runs"))
    store_large_study(paths, 60).close()
    return write_report(paths, "big").as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a Chromium that writes down what it logs and what it asks for."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


def show(browser: Any, page: str, *, width: int, scheme: str = "light") -> None:
    """Open the page on a screen of a width in pixels."""
    metrics = {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page)


def keep_screenshot(browser: Any, name: str) -> None:
    """Save what the browser shows where ``VBOT_CAMPAIGN_SCREENSHOTS`` names a folder."""
    folder = os.environ.get("VBOT_CAMPAIGN_SCREENSHOTS")
    if folder:
        browser.save_screenshot(str(Path(folder) / name))


def requests(browser: Any) -> list[str]:
    """Return the addresses that were asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def test_it_opens_without_an_error_and_without_a_request(browser: Any, page: str) -> None:
    requests(browser)
    show(browser, page, width=1200)
    keep_screenshot(browser, "report.png")
    assert set(requests(browser)) - {"data:,"} == {page}
    assert browser.get_log("browser") == []
    assert "Trial" in browser.find_element("css selector", "section.verdict h2").text
    drawn = browser.execute_script(
        """
        const heights = [...document.querySelectorAll('figure > svg')].map((svg) => svg.getBoundingClientRect().height);
        return heights.filter((height) => height > 20).length;
        """
    )
    assert drawn > 20


def test_a_picture_from_elsewhere_would_not_be_loaded(browser: Any, page: str) -> None:
    # The page has none; its policy would refuse one that slipped in.
    show(browser, page, width=1200)
    requests(browser)
    refused = browser.execute_async_script(
        """
        const done = arguments[0];
        document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective), {once: true});
        const image = new Image();
        image.src = 'http://127.0.0.1:9/x.png';
        document.body.append(image);
        """
    )
    assert refused == "img-src"
    browser.get_log("browser")


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_overflows(browser: Any, page: str, width: int) -> None:
    show(browser, page, width=width)
    keep_screenshot(browser, f"report_{width}.png")
    assert browser.execute_script("return document.documentElement.scrollWidth;") <= width
    beyond = browser.execute_script(
        """
        const scrolls = (node) => node && (getComputedStyle(node).overflowX === 'auto' || scrolls(node.parentElement));
        return [...document.querySelectorAll('main *')]
            .filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && !scrolls(node))
            .map((node) => node.outerHTML.slice(0, 80));
        """
    )
    assert beyond == []


def test_it_is_dark_where_dark_is_wanted(browser: Any, page: str) -> None:
    def brightness(scheme: str) -> float:
        show(browser, page, width=1200, scheme=scheme)
        keep_screenshot(browser, f"report_{scheme}.png")
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor;")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3

    assert brightness("light") > 200
    assert brightness("dark") < 60


def test_it_prints_on_a_few_pages(browser: Any, page: str, tmp_path: Path) -> None:
    show(browser, page, width=1200, scheme="dark")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    pdf = base64.b64decode(printed["data"])
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 3 <= pages <= 12
