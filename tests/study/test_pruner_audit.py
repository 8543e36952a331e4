"""What other pruners would have made of a study that has run."""

from __future__ import annotations

import json

import pytest

from tests.support.builders import study_spec
from vbot_campaign.cli import app
from vbot_campaign.errors import StudyError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.pruner_audit import audit_pruners
from vbot_campaign.study.snapshot import WouldPruneView
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy, load_snapshot

GRID = range(3000, 30_001, 3000)
SETTINGS = {"name": "none", "startup_trials": 2, "warmup": 0.2}


@pytest.fixture
def paths(tmp_path):
    return CampaignPaths(tmp_path)


def ran(paths, ends, *, pruned_after=None, pruner=SETTINGS, noted=None):
    """Store a study whose trials rose in a straight line to these scores; the last one may have been pruned."""
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, study_spec(pruner=pruner))
    for number, end in enumerate(ends):
        study.ask()
        last = pruned_after if number == len(ends) - 1 and pruned_after else 30_000
        for step in (step for step in GRID if step <= last):
            study.report(number, step, end * step / 30_000)
        study.ledger.update_trial(number, env_steps=last)
        if number == noted:
            study.set_would_prune(number, WouldPruneView(9000, "median pruner: score 0.0300"))
        if last == 30_000:
            study.complete(number, end, None, None)
        else:
            study.prune(number, "by hand")
    storage.close()
    return load_snapshot(paths, "toy")


def by_name(audits):
    return {audit.pruner: audit for audit in audits}


def test_what_is_saved_and_what_is_lost(paths):
    found = by_name(audit_pruners(ran(paths, [0.9, 0.8, 0.1, 1.0])))
    assert (found["none"].stopped, found["none"].saved, found["none"].regret) == ((), 0.0, 0.0)
    # The median of the first two is the bar: trial 2 falls below it at 6000, where the warmup ends.
    assert found["median"].stopped == ((2, 6000),)
    assert found["median"].saved == pytest.approx(24_000 / 120_000)
    assert found["noise_aware"].stopped == ((2, 9000),), "at the second point in a row"
    assert found["noise_aware"].best == 1.0


def test_a_pruner_that_loses_the_best_is_charged_for_it(paths):
    snapshot = ran(paths, [0.5, 0.5, 0.5])
    late = {step: 0.0 for step in GRID} | {30_000: 0.9}
    trial = snapshot.trials[2]
    with_late_bloomer = (*snapshot.trials[:2], type(trial)(**{**vars(trial), "reports": late, "score": 0.9}))
    audits = by_name(audit_pruners(type(snapshot)(**{**vars(snapshot), "trials": with_late_bloomer})))
    assert audits["median"].best == 0.5
    assert audits["median"].regret == pytest.approx(0.4)
    assert audits["none"].regret == 0.0


def test_a_pruned_trial_is_known_as_far_as_it_went(paths):
    found = by_name(audit_pruners(ran(paths, [0.9, 0.8, 0.1], pruned_after=15_000)))
    assert found["none"].recorded == found["none"].env_steps == 75_000
    assert found["median"].env_steps == 66_000


def test_pauses_are_replayed_on_one_slot(paths):
    found = by_name(audit_pruners(ran(paths, [0.5, 0.85, 0.7, 0.3, 0.9, 0.2, 0.8, 0.4, 1.0])))[
        "successive_halving (pause)"
    ]
    # Rungs at 6000 and 18000: trials 1 and 4 are among the best at the first, and only trial 8 at the second.
    assert found.stopped == tuple((n, 18_000 if n in (1, 4) else 6000) for n in range(8))
    assert found.env_steps == 6 * 6000 + 2 * 18_000 + 30_000
    assert (found.best, found.regret) == (1.0, 0.0)


def test_what_a_dry_run_noted_is_counted(paths, capsys):
    ran(paths, [0.9, 0.8, 0.1, 1.0], pruner={**SETTINGS, "name": "median", "dry_run": True}, noted=2)
    found = by_name(audit_pruners(load_snapshot(paths, "toy")))
    assert found["median (dry run)"].stopped == ((2, 9000),)
    assert found["median (dry run)"].saved == pytest.approx(21_000 / 120_000)
    assert found["none"].stopped == ()
    for words in (["audit-pruner", "toy"], ["show", "toy", "2"], ["status", "toy"]):
        with pytest.raises(SystemExit, match="0"):
            app(["--runs", str(paths.root), *words])
    out = " ".join(capsys.readouterr().out.split())
    assert "median (dry run) (in use)" in out
    assert "1 would have been pruned while it ran" in out
    assert "would have been stopped: median pruner: score 0.0300 (pruner.dry_run)" in out
    assert "· 1 would have been pruned" in out


def test_without_a_complete_trial_nothing_can_be_judged(paths):
    storage = open_storage(paths)
    CampaignStudy.create(storage, study_spec())
    storage.close()
    with pytest.raises(StudyError, match="no trial is complete, so no pruner can be judged"):
        audit_pruners(load_snapshot(paths, "toy"))


def test_the_command_prints_a_table_or_json(paths, capsys):
    ran(paths, [0.9, 0.8, 0.1, 1.0])
    for options in ([], ["--json"]):
        with pytest.raises(SystemExit, match="0"):
            app(["--runs", str(paths.root), "audit-pruner", "toy", *options])
    table, line = capsys.readouterr().out.rstrip("\n").rsplit("\n", 1)
    assert "4 complete trials replayed" in table
    assert "none (in use)" in table
    median = next(audit for audit in json.loads(line) if audit["pruner"] == "median")
    assert median["stopped"] == [[2, 6000]]
    assert median["saved"] == pytest.approx(0.2)
