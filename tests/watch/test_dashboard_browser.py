"""A person opens the dashboard: a real study, a real server and a headless Chromium."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support import toy_study
from tests.support.snapshots import EVALUATION, PARTS, STEPS, make_spec
from tests.support.stored_study import store_study
from tests.support.toy_pace import Hold
from vbot_campaign.exporters.dashboard import export_dashboard
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study import load_snapshot, open_storage
from vbot_campaign.study.study import CampaignStudy, close_readers
from vbot_campaign.watch import tensorboard
from vbot_campaign.watch.address import free_port
from vbot_campaign.watch.dashboard import open_dashboard
from vbot_campaign.worker.board import Board

pytest.importorskip("selenium", reason="pip install selenium")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the PATH"),
]

POINTS = 10
WAIT_S = 240


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
    with serving(paths) as address:
        yield address


@contextlib.contextmanager
def serving(paths: CampaignPaths) -> Iterator[str]:
    dashboard = open_dashboard(paths, port=0)
    thread = threading.Thread(target=dashboard.serve_forever)
    thread.start()
    try:
        yield f"{dashboard.address.url}dashboard/studies/1"
    finally:
        dashboard.shutdown()
        thread.join(timeout=240)
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


def test_a_study_grows_on_the_page_while_its_workers_train(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_ITERATION_S", "0.1")
    paths = CampaignPaths(tmp_path / "live")
    hold = Hold(monkeypatch, tmp_path / "hold", at=1)
    supervisor = toy_study.start(paths, {"budget": {"trials": 10}})
    toy_study.wait_until(lambda: paths.database.exists() and any(paths.study("toy").trials.glob("*")))
    listed = "return new Set(document.body.innerText.match(/Trial \\d+/g) ?? []).size;"
    with serving(paths) as url:
        browser.get(f"{url}/trials")
        first = wait_for(browser, listed)
        hold.release()
        wait_for(
            browser, listed.replace("return", "const count =").replace(".size;", f".size; return count > {first};")
        )
        output, _ = supervisor.communicate(timeout=240)
        assert "finished" in output
        wait_for(browser, listed.replace("return", "const count =").replace(".size;", ".size; return count === 10;"))
    assert first < 10


def test_note_pictures_and_files_of_a_trial_are_shown(browser: Any, tmp_path: Path) -> None:
    paths = CampaignPaths(tmp_path / "shown")
    store_study(paths)
    folder = TrialPaths(paths.study("walk").root / str(load_snapshot(paths, "walk").trials[0].folder))
    Image.new("RGB", (40, 30), "orange").save(folder.path_plot)
    Image.new("RGB", (32, 24), "green").save(folder.rollout)
    paths.study("walk").report.write_text("<h1>all about walk</h1>")
    export_dashboard(paths, "walk")
    close_readers()
    with serving(paths) as url:
        browser.get(url)
        for title in (
            "Score over env steps of the best",
            "How the evaluation's episodes ended",
            "Reward terms of trial 0",
        ):
            titles = "[...document.querySelectorAll('.gtitle')].map((t) => t.textContent)"
            assert wait_for(browser, f'return {titles}.some((text) => text.startsWith("{title}"));')
        keep_screenshot(browser, "pictures.png")
        browser.get(f"{url}/trials?numbers=0")
        # Wide as it was drawn: the picture came from the store.
        drawn = "return [...document.images].filter((i) => i.src.includes('/artifacts/')).map((i) => i.naturalWidth)"
        assert wait_for(
            browser, f"const w = (() => {{ {drawn}; }})(); return w.length === 2 && w.every(Boolean) && w.sort();"
        ) == [32, 40]
        for file in ("best_agent.pt", "paths.png", "rollout.gif", "trial.json"):
            assert file in browser.find_element("tag name", "body").text
        keep_screenshot(browser, "trial.png")
        browser.get(f"{url}/note")
        assert wait_for(browser, "return /budget: 4 trials or 2 hours/.test(document.body.innerText);")
        keep_screenshot(browser, "note.png")
        browser.find_element("link text", "Report").click()
        assert wait_for(browser, "return document.body.innerText;") == "all about walk"


def test_hparams_of_tensorboard_compare_the_trials(browser: Any, tmp_path: Path) -> None:
    for trial, (rate, sizes, score) in enumerate(
        ((1e-4, "[64]", 0.25), (3e-4, "[128, 64]", 0.5), (1e-3, "[64]", 0.75))
    ):
        folder = tmp_path / "runs" / f"{trial:04d}_PPO"
        folder.mkdir(parents=True)
        board = Board(folder, attempt=1)
        point = {"ppo.learning_rate": rate, "ppo.policy_hidden_layer_sizes": sizes}
        board.hyperparameters(point, {"Score/final score": score})
        board.scalars(1000, {"Score/final score": score})
        board.close()
    address = free_port("127.0.0.1", 0)
    command = tensorboard.command(tmp_path / "runs", address)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            open_when_it_answers(browser, f"{address.url}#hparams")
            shown = wait_for(
                browser,
                """
                const seen = [];
                const look = (node) => {
                  for (const child of node.childNodes) {
                    if (child.nodeType === 3) seen.push(child.textContent.trim());
                    if (child.shadowRoot) look(child.shadowRoot);
                    look(child);
                  }
                };
                look(document.body);
                const text = seen.filter(Boolean);
                return ['0000_PPO', '0001_PPO', '0002_PPO'].every((name) => text.join(' ').includes(name)) && text;
                """,
            )
            keep_screenshot(browser, "hparams.png")
        finally:
            process.terminate()
    text = " ".join(shown)
    for word in ("ppo.learning_rate", "ppo.policy_hidden_layer_sizes", "final score", "0.75", "[128, 64]"):
        assert word in text


def open_when_it_answers(browser: Any, url: str) -> None:
    from selenium.common.exceptions import WebDriverException

    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            browser.get(url)
            return
        except WebDriverException:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.5)
