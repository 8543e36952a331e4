"""What optuna-dashboard shows of a study besides its own pages: a note, pictures, why a trial is infeasible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna_dashboard import get_note, save_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

from tests.support.snapshots import EVALUATION, PARTS, STEPS, make_running, make_snapshot, make_spec, make_trial
from tests.support.stored_study import store_study
from vbot_campaign.exporters import dashboard_note
from vbot_campaign.exporters.curves import Curves
from vbot_campaign.exporters.dashboard import DashboardExporter
from vbot_campaign.exporters.dashboard_plots import BARS, CURVES, figures
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.snapshot import StudySnapshot, WarmStartView
from vbot_campaign.study.storage import CampaignStorage
from vbot_campaign.study.study import close_readers


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[CampaignPaths]:
    paths = CampaignPaths(tmp_path / "runs")
    store_study(paths)
    yield paths
    close_readers()


@pytest.fixture
def storage(paths: CampaignPaths) -> Iterator[CampaignStorage]:
    storage = open_storage(paths)
    yield storage
    storage.close()


def study_of(storage: CampaignStorage) -> optuna.Study:
    return optuna.load_study(study_name="walk", storage=storage.optuna)


def pictures(storage: CampaignStorage) -> dict[str, Any]:
    attrs = storage.optuna.get_study_system_attrs(storage.optuna.get_study_id_from_name("walk"))
    return {name: json.loads(text) for name, text in get_plotly_graph_objects(attrs).items()}


def update(paths: CampaignPaths, snapshot: StudySnapshot | None = None) -> None:
    with DashboardExporter(paths, "walk") as exporter:
        exporter.update(snapshot or load_snapshot(paths, "walk"))


def test_the_note_says_what_the_study_is() -> None:
    start = WarmStartView("0" * 64, 10, 1_000_000, "/somewhere/a.pt")
    spec = make_spec(constraints=[{"skip_if": "reward.arrival_bonus > 190", "reason": "too much"}])
    note = dashboard_note.render(make_snapshot(spec=spec, warm_start=start))

    assert "[Report](/reports/walk) · [TensorBoard](/tensorboard)" in note
    assert "* **budget**: 4 trials or 2 hours" in note
    assert "* **score**: 0.6 × success_rate + 0.4 × survival_rate" in note
    assert "* **every trial starts from**: the policy of /somewhere/a.pt after 1,000,000 env steps" in note
    assert "| `ppo.learning_rate` | loguniform | 1e-05 .. 0.001 |" in note
    assert "`ppo.lambda_param` 0.9" in note
    assert "* `reward.arrival_bonus > 190` (too much)" in note


def test_less_is_better_is_written_as_it_is_counted() -> None:
    spec = make_spec(objective={"time_to_goal": {"weight": 0.5}, "episode_reward_mean": {"weight": 0.5, "scale": 8}})
    note = dashboard_note.render(make_snapshot(spec=spec))
    assert "0.5 × (1 - time_to_goal / 10) + 0.5 × episode_reward_mean / 8" in note


def test_what_a_person_wrote_into_the_note_stays(paths: CampaignPaths, storage: CampaignStorage) -> None:
    save_note(study_of(storage), "my first thoughts")
    update(paths)
    note = get_note(study_of(storage))
    assert note.startswith("## walk\n")
    assert note.endswith("my first thoughts\n")
    save_note(study_of(storage), note + "\nand a second one")
    snapshot = load_snapshot(paths, "walk")
    spec = snapshot.spec.model_copy(update={"budget": snapshot.spec.budget.model_copy(update={"trials": 50})})
    update(paths, replace(snapshot, spec=spec))
    note = get_note(study_of(storage))
    assert "50 trials" in note
    assert note.count("my first thoughts") == note.count("## walk") == 1
    assert note.endswith("my first thoughts\n\nand a second one\n")


def test_the_note_is_written_only_when_it_says_something_else(paths: CampaignPaths, storage: CampaignStorage) -> None:
    for _ in range(3):
        update(paths)
    attrs = storage.optuna.get_study_system_attrs(1)
    assert attrs["dashboard:note_ver"] == 1


def test_nothing_is_drawn_before_a_trial_is_complete() -> None:
    assert figures(make_snapshot(trials=(make_running(),)), Curves()) == {}


def test_pictures_of_the_best_trials_are_saved(paths: CampaignPaths, storage: CampaignStorage) -> None:
    update(paths)
    drawn = pictures(storage)
    assert set(drawn) == {"score-over-env-steps", "outcome-shares", "reward-terms-of-the-best"}
    [curve] = drawn["score-over-env-steps"]["data"]
    assert (curve["name"], curve["x"], curve["y"]) == ("trial 0: 0.600", [STEPS // 2], [0.2])
    shares = {bar["name"]: bar["y"] for bar in drawn["outcome-shares"]["data"]}
    assert shares["success"] == [0.5]
    assert sum(values[0] for values in shares.values()) == pytest.approx(1.0, abs=1e-3)
    terms = {line["name"]: line["y"] for line in drawn["reward-terms-of-the-best"]["data"]}
    assert set(terms) == {"torques", "termination", "alive_bonus"}, "terms that are always zero are left out"
    assert terms["torques"][:3] == [-0.5, -1.0, -1.5]


def test_pictures_follow_when_another_trial_completes_and_only_then(paths: CampaignPaths) -> None:
    snapshot = load_snapshot(paths, "walk")
    exporter = DashboardExporter(paths, "walk")
    writes: list[str] = []
    with exporter, pytest.MonkeyPatch.context() as patch:
        patch.setattr("vbot_campaign.exporters.dashboard.save_figure", lambda *given: writes.append(given[2]))
        exporter.update(snapshot)
        exporter.update(snapshot)
        assert len(writes) == 3
        more = (*snapshot.trials, make_running(3))
        exporter.update(replace(snapshot, trials=more))
        assert len(writes) == 3
        exporter.update(replace(snapshot, trials=(*snapshot.trials, make_trial(3, score=0.7, folder=None))))
        assert len(writes) > 3


def test_what_is_stored_stays_small_in_a_large_study(paths: CampaignPaths) -> None:
    reports = {STEPS * i // 30: i / 30 for i in range(1, 31)}
    trials = tuple(make_trial(n, score=n / 300, reports=reports) for n in range(300))
    terms = {f"term/t{i}": tuple(0.001 * i * j for j in range(60)) for i in range(1, 30)}
    curves = Curves(env_steps=tuple(range(60)), hours=tuple([0.0] * 60), values=terms)

    drawn = figures(make_snapshot(trials=trials), curves)

    assert len(drawn["score-over-env-steps"].data) == CURVES
    assert [len(bar.x) for bar in drawn["outcome-shares"].data] == [BARS] * 5
    assert drawn["score-over-env-steps"].data[0].name == "trial 299: 0.997"
    assert sum(len(figure.to_json()) for figure in drawn.values()) < 30_000


def test_infeasible_trials_say_so(tmp_path: Path) -> None:
    storage = open_storage(CampaignPaths(tmp_path / "runs"))
    study = CampaignStudy.create(storage, make_spec())
    for _ in range(4):
        study.ask()
    study.complete(0, 0.5, PARTS, EVALUATION)
    study.fail(1, "diverged: loss is not finite")
    study.fail(2, "exit code 1 without a result")
    study.prune(3, "median")
    attrs = [trial.user_attrs for trial in study_of(storage).trials]
    storage.close()
    assert [a.get("feasible") for a in attrs] == [True, False, None, True]
    assert [a.get("constraint diverged") for a in attrs] == [-1.0, 1.0, None, -1.0]
