"""A finished study in a real database, with the files that its workers left."""

from __future__ import annotations

from tests.support.snapshots import (
    EVALUATION,
    PARTS,
    STEPS,
    make_failed,
    make_pruned,
    make_snapshot,
    make_spec,
    make_trial,
    write_study,
)
from vbot_campaign import fs
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study import CampaignStudy, open_storage
from vbot_campaign.study.snapshot import TrialView


def store_study(paths: CampaignPaths) -> None:
    """Store the study ``walk`` with one complete, one pruned and one failed trial; it has no mirrors yet."""
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, make_spec())
    asked = [study.ask() for _ in range(3)]
    points = [dict(trial.parameters) for trial in asked if trial is not None]
    makers = (make_trial, make_pruned, make_failed)
    planned = tuple(make(n, parameters=points[n]) for n, make in enumerate(makers))
    for trial in write_study(paths, make_snapshot(spec=study.spec, trials=planned)).trials:
        _record(paths, study, trial)
    study.complete(0, 0.6, PARTS, EVALUATION)
    study.prune(1, "median")
    study.fail(2, "diverged: loss is not finite")
    study.set_status("finished", "all 3 trials are done")
    storage.close()


def _record(paths: CampaignPaths, study: CampaignStudy, trial: TrialView) -> None:
    attempt = study.ledger.open_attempt(trial.number, slot="cpu:0", first_env_step=0)
    study.ledger.close_attempt(trial.number, attempt.number, reason="ended", exit_code=0, died=False)
    study.ledger.update_trial(
        trial.number, folder=trial.folder, env_steps=trial.env_steps, parts=dict(PARTS), env_steps_per_s=2500.0
    )
    study.report(trial.number, STEPS // 2, 0.2)
    folder = TrialPaths(paths.study("walk").root / str(trial.folder))
    for line, view in zip(fs.read_lines(folder.checkpoint_log), trial.checkpoints, strict=True):
        full = {**line, "env_steps": STEPS, "score": 0.6, "parts": dict(PARTS), "time": "2026-01-31T12:06:00Z"}
        study.ledger.record_checkpoint(trial.number, view.path, full)
