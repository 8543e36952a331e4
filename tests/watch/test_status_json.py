"""The state of a study as JSON, and the schema that it keeps to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.support.snapshots import (
    START,
    STEPS,
    make_failed,
    make_pruned,
    make_running,
    make_snapshot,
    make_trial,
    write_study,
)
from tests.support.stored_study import store_study
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.reading import read_snapshot
from vbot_campaign.study.snapshot import AlertView, AuditView, TrialState, WarmStartView
from vbot_campaign.watch.status_json import Status, status_json, status_schema

SCHEMA = Path(__file__).parents[2] / "docs" / "status.schema.json"


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CampaignPaths:
    monkeypatch.chdir(tmp_path)
    return CampaignPaths(Path("runs"))


def full(paths: CampaignPaths) -> dict:
    """Return the JSON of a study in which nothing is left out."""
    waiting = make_running(4, state=TrialState.WAITING, attempts=(), parts=None, reports={}, env_steps=0)
    broken = make_trial(5, parts={"success_rate": float("nan")}, score=0.1)
    snapshot = make_snapshot(
        trials=(make_trial(0), make_pruned(1), make_failed(2), make_running(3), waiting, broken),
        supervisor={"host": "box", "pid": 7, "started": START},
        audit=AuditView("2026-01-31T12:00:00Z", ("stands still",), 12, 3, 1.5),
        warm_start=WarmStartView("0" * 64, 12, STEPS, "/far/best_agent.pt", "far", 4, 0.5),
        alerts=(AlertView("2026-01-31T12:00:00Z", "warning", "low_disk", "3 GB are free", "make room"),),
    )
    return status_json(paths, write_study(paths, snapshot), now=START)


def test_it_is_plain_and_versioned(paths: CampaignPaths) -> None:
    content = full(paths)
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text) == content
    assert content["schema_version"] == 2
    assert content["time"] == content["supervisor"]["started"] == "2026-01-31T12:00:00Z"
    assert [trial["state"] for trial in content["trials"]][:4] == ["complete", "pruned", "failed", "running"]
    assert content["trials"][2]["score"] is None
    assert content["trials"][5]["parts"] == {"success_rate": None}
    assert content["trials"][3]["pruner"]["rank"] == 1
    assert [device["slot"] for device in content["devices"]] == content["slots"] == ["cpu:0", "cpu:1"]
    assert content["alerts"][0]["advice"] == "make room"
    assert content["best"] == {
        "trial": 0,
        "score": 0.6,
        "policy": "runs/walk/trials/0000_20260131T120000Z_PPO/checkpoints/best_agent.pt",
    }


def test_it_keeps_to_its_schema(paths: CampaignPaths) -> None:
    content = full(paths)
    Status.model_validate(content)
    Status.model_validate(status_json(paths, make_snapshot(trials=(), state="created", slots=())))
    stored = CampaignPaths(Path("stored"))
    store_study(stored)
    Status.model_validate(status_json(stored, read_snapshot(stored, "walk")))
    with pytest.raises(ValidationError, match="Extra inputs"):
        Status.model_validate({**content, "unknown": 1})


def test_the_exported_schema_is_current_and_says_what_each_key_means() -> None:
    written = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert written == status_schema(), f"python -m vbot_campaign.watch.status_json > {SCHEMA.name}"
    assert "Seconds until the first budget is used up" in written["properties"]["eta_s"]["description"]
    assert sorted(written["required"]) == sorted(written["properties"])


def test_the_schema_is_that_of_the_output(paths: CampaignPaths) -> None:
    assert list(full(paths)) == list(status_schema()["properties"])
    assert replace(make_snapshot(), state="stopped").state in status_schema()["properties"]["state"]["enum"]
