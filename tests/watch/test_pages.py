"""Over real HTTP: reports, artifacts and the way to TensorBoard, on the dashboard's server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.stored_study import store_study
from tests.watch.test_guard import Client, serving
from vbot_campaign.exporters.dashboard import export_dashboard
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.artifacts import artifact_id, remove_artifact
from vbot_campaign.study.study import close_readers

TENSORBOARD = "http://127.0.0.1:6123/"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CampaignPaths]:
    paths = CampaignPaths(tmp_path_factory.mktemp("pages") / "runs")
    store_study(paths)
    export_dashboard(paths, "walk")
    yield paths
    close_readers()


@pytest.fixture(scope="module")
def client(paths: CampaignPaths) -> Iterator[Client]:
    with serving(paths, tensorboard=TENSORBOARD) as client:
        yield client


def test_the_report_of_a_study_is_shown_in_a_sandbox(paths: CampaignPaths, client: Client) -> None:
    missing = client.ask("GET", "/reports/walk")
    assert missing.status == 404
    assert b"vbot-campaign report" in missing.body
    paths.study("walk").report.write_text("<h1>walk</h1>")

    answer = client.ask("GET", "/reports/walk")

    assert (answer.status, answer.body) == (200, b"<h1>walk</h1>")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("name", ["", "..", "../walk", "%2e%2e", "walk/../walk", "wa%00lk", "con"])
def test_nothing_but_reports_can_be_reached_there(client: Client, name: str) -> None:
    assert client.ask("GET", f"/reports/{name}").status in (400, 404)


def test_tensorboard_is_found_where_it_is_served_too(client: Client, paths: CampaignPaths) -> None:
    answer = client.ask("GET", "/tensorboard")
    assert (answer.status, answer.headers["Location"]) == (303, TENSORBOARD)
    with serving(paths) as alone:
        answer = alone.ask("GET", "/tensorboard")
        assert answer.status == 404
        assert b"vbot-campaign up" in answer.body


def test_a_token_is_wanted_for_reports_too(paths: CampaignPaths) -> None:
    with serving(paths, token="abc") as client:
        assert client.ask("GET", "/reports/walk").status == 401
        assert client.ask("GET", "/tensorboard").status == 401


def test_a_trials_file_is_served_to_this_page_alone(paths: CampaignPaths, client: Client) -> None:
    trials = json.loads(client.ask("GET", "/api/studies/1?after=0").body)["trials"]
    files = {artifact["filename"]: artifact["artifact_id"] for artifact in trials[0]["artifacts"]}

    answer = client.ask("GET", f"/artifacts/1/1/{files['trial.json']}", {"Origin": "http://elsewhere.example"})

    assert answer.status == 200
    assert json.loads(answer.body)["study"] == "walk"
    assert answer.headers["Access-Control-Allow-Origin"] is None
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_file_that_was_removed_for_space_says_so(paths: CampaignPaths, client: Client) -> None:
    remove_artifact(paths, "walk", 1, "trial.json")
    answer = client.ask("GET", f"/artifacts/1/2/{artifact_id('walk', 1, 'trial.json')}")
    assert answer.status == 404
    assert b"This file is gone" in answer.body
