"""All commands that train do it on the cluster where the settings file says so."""

from __future__ import annotations

import pytest

from tests.support.service import queue_in, write_plan
from vbot_campaign.spec.settings import SETTINGS_VARIABLE
from vbot_campaign.study.study import load_snapshot, study_names

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_the_queue_a_plan_a_confirmation_and_an_extension_train_on_the_cluster(tmp_path, ray_cluster):
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"launcher: ray\nray_address: {ray_cluster.address}\n")
    with queue_in(tmp_path, **{SETTINGS_VARIABLE: str(settings)}) as queue:
        queue.submit("walk", budget={"trials": 1})
        queue.submit_file(write_plan(tmp_path, "course"))
        service = queue.serve()
        queue.wait_for(lambda: all(one.state.value in ("failed", "finished") for one in queue.rows().values()))
        assert service.end() == 0
        queue.call("confirm", "walk", "--top", "1", "--seeds", "2")
        queue.call("extend", "walk", "--top", "1", "--env-steps", "40000")
        names = study_names(queue.paths)
        assert {"walk", "walk.confirm", "walk.extend"} < set(names)
        assert len([name for name in names if name.startswith("course.")]) == 2, "its search and its training"
        for name in names:
            trials = load_snapshot(queue.paths, name).trials
            assert [trial.state.value for trial in trials] == ["complete"] * len(trials)
            assert {attempt.slot for trial in trials for attempt in trial.attempts} == {"ray:0"}, name
