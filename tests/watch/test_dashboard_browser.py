"""A person opens the dashboard: a real study, a real server and a headless Chromium."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.snapshots import EVALUATION, PARTS, STEPS, make_spec
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import open_storage
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.watch.dashboard import open_dashboard

pytest.importorskip("selenium", reason="pip install selenium")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the PATH"),
]

POINTS = 10
WAIT_S = 60


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    """Return the runs folder of a study with two complete, one pruned and one running trial."""
    paths = CampaignPaths(tmp_path / "runs")
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, make_spec(pruner={"name": "none"}))
    for number, points in enumerate((POINTS, POINTS, POINTS // 2, 3)):
        assert study.ask() is not None
        for point in range(1, points + 1):
            study.report(number, STEPS * point // POINTS, (number + 1) * point / 50)
    study.complete(0, 0.21, PARTS, EVALUATION)
    study.complete(1, 0.42, PARTS, EVALUATION)
    study.prune(2, "median")
    storage.close()
    return paths


@pytest.fixture
def url(paths: CampaignPaths) -> Iterator[str]:
    """Serve the dashboard and return the address of the study's page."""
    dashboard = open_dashboard(paths, port=0)
    thread = threading.Thread(target=dashboard.serve_forever)
    thread.start()
    yield f"{dashboard.address.url}dashboard/studies/1"
    dashboard.shutdown()
    thread.join(timeout=10)
    dashboard.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Start a Chromium that talks to nobody but us."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
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
        "window-size=1400,1800",
        f"user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=Service(executable_path=DRIVER))
    driver.set_page_load_timeout(WAIT_S)
    yield driver
    driver.quit()


def wait_for(browser: Any, script: str) -> Any:
    """Return what a script in the page returns, as soon as that is not empty."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, WAIT_S).until(lambda page: page.execute_script(script))


def keep_screenshot(browser: Any, name: str) -> None:
    """Save what the browser shows where ``VBOT_CAMPAIGN_SCREENSHOTS`` names a folder."""
    folder = os.environ.get("VBOT_CAMPAIGN_SCREENSHOTS")
    if folder:
        browser.save_screenshot(str(Path(folder) / name))


def test_curves_of_the_trials_are_drawn(browser: Any, url: str) -> None:
    browser.get(url)
    # Plotly keeps on the element what it has drawn.
    traces = wait_for(
        browser,
        """
        const plot = document.getElementById('graph-intermediate-values');
        return plot?.data?.length && plot.data.map((trace) => ({name: trace.name, x: [...trace.x], y: [...trace.y]}));
        """,
    )
    browser.execute_script("document.getElementById('graph-intermediate-values').scrollIntoView({block: 'end'});")
    keep_screenshot(browser, "study.png")
    drawn = {trace["name"].strip(): trace for trace in traces}
    assert set(drawn) == {"trial #0", "trial #1", "trial #2", "trial #3 (running)"}
    assert drawn["trial #1"]["x"] == [STEPS * point // POINTS for point in range(1, POINTS + 1)]
    assert drawn["trial #1"]["y"] == pytest.approx([2 * point / 50 for point in range(1, POINTS + 1)])
    assert len(drawn["trial #2"]["x"]) == POINTS // 2


def test_the_list_shows_each_trial_with_its_state(browser: Any, url: str) -> None:
    browser.get(f"{url}/trials")
    text = wait_for(
        browser,
        "const text = document.body.innerText; return /Trial 3/.test(text) && /Trial 0/.test(text) ? text : null;",
    )
    keep_screenshot(browser, "trials.png")
    for state in ("Complete", "Pruned", "Running"):
        assert state in text


def test_the_front_page_names_the_study(browser: Any, url: str) -> None:
    browser.get(url.removesuffix("/studies/1"))
    assert wait_for(browser, "return /walk/.test(document.body.innerText);")
    keep_screenshot(browser, "front.png")
