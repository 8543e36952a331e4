"""What people see of campaigns: table, mirror, JSON, forecast; and the database they are stored in."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.builders import TOY_COMMAND, cpu_slots
from tests.support.campaign import assert_fits_80_columns
from tests.support.files import call
from tests.support.stored_study import store_study
from tests.support.toy_campaign import NEAR, ToySettings, plan_spec, run
from vbot_campaign.campaign.forecast import forecast
from vbot_campaign.campaign.probe import probe
from vbot_campaign.campaign.view import read_campaign
from vbot_campaign.exporters.campaign_state import CampaignMirror
from vbot_campaign.exporters.mirrors import export_all
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.backup import automatic_backups
from vbot_campaign.study.plans import plan_names
from vbot_campaign.study.reading import read_snapshot
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import close_readers
from vbot_campaign.study.tables import SCHEMA_VERSION

PLAN = """\
plan: tiny
budget: {hours: 1}
workers: {num_envs: 32, slots: 2}
ppo: {rollouts: 16}
stages:
  - stage: near
    train: {env_steps: 1_000_000}
    gate: {threshold: 0.9, tries: 2}
  - stage: far
    warm_start: {stage: near}
    train: {env_steps: 1_000_000}
"""


def test_a_finished_campaign_in_the_terminal_and_in_its_mirror(
    paths: CampaignPaths, toy: ToySettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy({"near": [0.5, 0.95]})
    written: list[float] = []
    run(paths, more={"on_change": lambda: written.append(read_campaign(paths, "toy").spent.hours)})
    monkeypatch.setenv("VBOT_CAMPAIGN_RUNS", str(paths.root))
    monkeypatch.setenv("COLUMNS", "80")

    assert call(monkeypatch, "campaign", "status") == 0
    table = capsys.readouterr().out
    assert_fits_80_columns(table)
    rows = [line.split() for line in table.splitlines()]
    assert rows[0] == ["toy", "·", "finished:", "all", "2", "stages", "are", "over"]
    assert rows[4][:10] == ["1", "near", "passed", "2", "of", "2", "1.000", "success", ">=", "0.9:"]
    assert str(paths.plan("toy").root / "stages" / "2_far" / "best_agent.pt") in table.replace("\n", "")

    assert call(monkeypatch, "campaign", "status", "toy", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert call(monkeypatch, "export", "toy") == 0
    mirror = yaml.safe_load(paths.plan("toy").state.read_text())
    assert mirror == {"schema_version": 1, **values}
    assert mirror["curriculum_progress"] == {"near": "completed", "far": "completed"}
    assert mirror["current_stage"] is None
    near, far = mirror["stages"]
    assert (near["env_steps"], far["env_steps"]) == (70_000, 10_000)
    assert [one["gate"]["value"] for one in near["tries"]] == [0.5, 0.95]
    assert far["warm_start"] == {"stage": "near", "take": "last", "study": "toy.near.train", "trial": 1}
    assert near["promoted"]["sha256"] == mirror["stages"][0]["promoted"]["sha256"]
    assert written == sorted(written), "hours only grow"
    # The lineage of checkpoints, where people look for checkpoints.
    export_all(paths, "toy.far.train")
    registry = yaml.safe_load(paths.study("toy.far.train").registry.read_text())
    start = registry["warm_start"]
    assert (start["study"], start["trial"], start["env_steps"]) == ("toy.near.train", 1, 20_000)


def test_the_mirror_is_not_written_at_every_report(paths: CampaignPaths, toy: ToySettings) -> None:
    run(paths, stages=[{**NEAR, "search": None}])
    now = [0.0]
    mirror, file = CampaignMirror(paths, "toy", clock=lambda: now[0]), paths.plan("toy").state
    mirror.update()
    file.unlink()
    now[0] = 4.9
    mirror.update()
    assert not file.exists()
    now[0] = 5.0
    mirror.update()
    assert file.exists()


def test_a_plan_is_costed_without_anything_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    monkeypatch.setenv("VBOT_CAMPAIGN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "80")
    assert call(monkeypatch, "campaign", "plan", file) == 0
    text = capsys.readouterr().out
    assert_fits_80_columns(text)
    assert "1 near 1 to 2 trainings 1M - 2M" in " ".join(text.split())
    assert "a guess, nothing was trained here; try --probe" in text
    assert not (tmp_path / "runs").exists()
    assert call(monkeypatch, "campaign", "plan", file, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["env_steps"] == {"low": 2_000_000, "high": 3_000_000}
    file.write_text(PLAN.replace("stage: near}", "stage: naer}"))
    assert call(monkeypatch, "campaign", "plan", file) == 2
    assert "no stage 'naer'. Did you mean 'near'" in capsys.readouterr().err


def test_a_forecast_worked_out_by_hand(paths: CampaignPaths) -> None:
    store_study(paths)  # three trials, each at 2500 env steps per second
    stage: dict[str, Any] = {
        "stage": "near",
        "search": {**NEAR["search"], "trials": 4, "env_steps_per_trial": 900_000, "pruner": {"name": "median"}},
        "train": {"env_steps": 1_800_000},
        "gate": {"threshold": 0.9, "seeds": 1, "episodes": 100, "tries": 2},
    }
    made = forecast(paths, plan_spec(stages=[stage], budget={"hours": 0.5}), cpu_slots(2))
    (near,) = made.stages
    assert near.does == "4 trials, 1 to 2 trainings"
    assert (near.env_steps.low, near.env_steps.high) == (4 * 360_000 + 1_800_000, 4 * 900_000 + 3_600_000)
    # Two slots: two rounds of trials; one training after the other; then 100 episodes, at most twice.
    assert near.hours.low == pytest.approx((2 * 144 + 720 + 2) / 3600)
    assert near.slot_hours.high == pytest.approx((4 * 360 + 2 * 720) / 3600)
    assert near.hours.high == pytest.approx((2 * 360 + 2 * 720 + 20) / 3600)
    assert "speed with mujoco: from 3 trials in this runs folder" in made.notes
    assert any("the budget of 0.5 hours is perhaps too small" in note for note in made.notes)


def test_a_probe_measures_every_slot(toy: ToySettings) -> None:
    toy(iteration_s=0.01)
    # So long that neither worker can come to its end before the other one has begun.
    endless = plan_spec(stages=[{"stage": "near", "train": {"env_steps": 10_000_000}}])
    measured = probe(endless, cpu_slots(2), seconds=0.2, command=TOY_COMMAND)
    assert [one.physics for one in measured] == ["mujoco"] * 2
    assert [one.env_steps_per_s for one in measured] == pytest.approx([50_000.0] * 2)


# --- the database ---------------------------------------------------------------------------------------------------


def test_a_database_of_the_version_before_is_brought_up_to_date_and_saved_first(paths: CampaignPaths) -> None:
    store_study(paths)
    with closing(sqlite3.connect(paths.database)) as connection, connection:
        connection.execute("DROP TABLE campaign_plans")
        connection.execute("UPDATE campaign_schema SET version = 1")
    close_readers()
    assert plan_names(paths) == [], "looking changes nothing"
    assert read_snapshot(paths, "walk").spec.study == "walk"
    assert version(paths.database) == 1

    open_storage(paths).close()

    assert version(paths.database) == SCHEMA_VERSION
    (saved,) = automatic_backups(paths)
    assert version(saved) == 1
    assert len(read_snapshot(paths, "walk").trials) == 3


def version(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT version FROM campaign_schema").fetchone()[0])
