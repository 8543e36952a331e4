"""A supervisor puts each trial's files into the dashboard's store as the trial ends."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.artifacts import get_all_artifact_meta

from tests.support import toy_study
from vbot_campaign.exporters.dashboard import DashboardExporter
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import open_storage
from vbot_campaign.study.artifacts import artifact_id


def listed(paths: CampaignPaths) -> list[set[str]]:
    """Return the names of each trial's artifacts."""
    storage = open_storage(paths, read_only=True)
    study = optuna.load_study(study_name="toy", storage=storage.optuna)
    names = [{m.filename for m in get_all_artifact_meta(t, storage=storage.optuna)} for t in study.trials]
    storage.close()
    return names


def test_every_trial_has_its_files_and_the_study_its_pictures(tmp_path: Path) -> None:
    paths = CampaignPaths(tmp_path / "runs")
    with DashboardExporter(paths, "toy") as exporter:
        outcome = toy_study.run(paths, {"observers": (exporter,)}, budget={"trials": 3})

    assert listed(paths) == [{"best_agent.pt", "trial.json", "worker.log"}] * 3
    for trial in outcome.snapshot.trials:
        linked = paths.artifacts / artifact_id("toy", trial.number, "trial.json")
        assert linked.samefile(paths.study("toy").root / str(trial.folder) / "trial.json")
    storage = open_storage(paths, read_only=True)
    attrs = storage.optuna.get_study_system_attrs(1)
    storage.close()
    assert "dashboard:plot_data:score-over-env-steps:0" in attrs
    assert "observer_failed" not in toy_study.actions(paths)


def test_a_store_that_cannot_be_written_stops_nothing_and_is_said_once(tmp_path: Path) -> None:
    paths = CampaignPaths(tmp_path / "runs")
    paths.root.mkdir()
    paths.artifacts.write_text("in the way")

    outcome = toy_study.run(paths, budget={"trials": 2})

    assert outcome.state == "finished"
    assert [str(state) for state in toy_study.states(outcome)] == ["complete", "complete"]
    assert toy_study.actions(paths).count("artifacts_failed") == 1
