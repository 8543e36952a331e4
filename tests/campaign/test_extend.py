"""Trials trained on from their own last checkpoints: exactly, on real workers and on the toy one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import toy_study
from tests.support.builders import cpu_slots
from tests.support.campaign import ITERATION, stable_lines, tiny_study
from tests.support.sharing import kill_all
from vbot_campaign import fs
from vbot_campaign.campaign.extend import extend_study
from vbot_campaign.errors import CheckpointCorruptError, StudyError
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.spec.resolve import with_defaults
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.snapshot import TrialState, TrialView
from vbot_campaign.study.study import close_readers
from vbot_campaign.supervisor import Outcome, run_study

INTERVAL = 7
"""Iterations between two checkpoints of the tiny study."""
WHOLE = 6
"""Intervals of a long training; one that is killed after three of them is far from its end."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    yield
    close_readers()


def folder(paths: CampaignPaths, study: str, trial: TrialView) -> TrialPaths:
    return TrialPaths(paths.study(study).root / str(trial.folder))


# --- real workers ---------------------------------------------------------------------------------------------------

DRIVER = """
import sys
from pathlib import Path
from tests.support.builders import cpu_slots
from vbot_campaign.campaign.extend import extend_study
from vbot_campaign.paths import CampaignPaths
extend_study(CampaignPaths(Path(sys.argv[1])), "tiny", trials=[0], env_steps=int(sys.argv[2]), slots=cpu_slots(1))
"""


def tiny(intervals: int, schedule: str, **changes: Any) -> StudySpec:
    """Return a study of one tiny trial of so many checkpoint intervals."""
    ppo = {**tiny_study()["fixed"]["ppo"], "lr_scheduler_type": schedule}
    values = {
        "env_steps_per_trial": intervals * INTERVAL * ITERATION,
        "budget": {"trials": 1},
        "fixed": {"ppo": ppo, "env": tiny_study()["fixed"]["env"]},
        **changes,
    }
    return StudySpec.model_validate(tiny_study(**values))


def train(root: Path, intervals: int, schedule: str = "none") -> CampaignPaths:
    paths = CampaignPaths(root)
    assert run_study(paths, tiny(intervals, schedule), slots=cpu_slots(1)).state == "finished"
    return paths


def extend_tiny(paths: CampaignPaths, intervals: int = WHOLE, **more: Any) -> TrialPaths:
    steps = intervals * INTERVAL * ITERATION
    outcome = extend_study(paths, "tiny", trials=[0], env_steps=steps, slots=cpu_slots(1), **more)
    (trial,) = outcome.snapshot.trials
    assert trial.state is TrialState.COMPLETE, trial.reason
    return folder(paths, "tiny.extend", trial)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> CampaignPaths:
    """Two intervals of training with a constant learning rate, finished."""
    return train(tmp_path_factory.mktemp("short"), 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrialPaths:
    """A long training that was never stopped."""
    paths = train(tmp_path_factory.mktemp("whole"), WHOLE)
    return folder(paths, "tiny", load_snapshot(paths, "tiny").trials[0])


def copied(paths: CampaignPaths, root: Path) -> CampaignPaths:
    import shutil

    close_readers()
    shutil.copytree(paths.root, root / "runs")
    return CampaignPaths(root / "runs")


def progress(trial: TrialPaths) -> list[dict[str, Any]]:
    return [line for line in stable_lines(trial) if line["kind"] == "progress"]


def assert_same_rest(extended: TrialPaths, whole: TrialPaths) -> None:
    wanted = progress(whole)[2 * INTERVAL :]
    assert [line["iteration"] for line in progress(extended)] == list(range(2 * INTERVAL + 1, WHOLE * INTERVAL + 1))
    for ours, theirs in zip(progress(extended), wanted, strict=True):
        assert ours == theirs
    files = [torch.load(t.checkpoint(WHOLE * INTERVAL * ITERATION), weights_only=True) for t in (extended, whole)]
    for name, tensor in files[0]["policy"].items():
        assert torch.equal(tensor, files[1]["policy"][name]), name


def test_an_extension_equals_a_training_that_was_never_stopped(tmp_path, short, whole):
    paths = copied(short, tmp_path)
    extended = extend_tiny(paths)
    assert_same_rest(extended, whole)
    final = [line for line in stable_lines(extended) if line["kind"] == "evaluation"]
    last = next(line for line in stable_lines(whole) if line["kind"] == "evaluation")
    assert final[0] == last, "the evaluation at the end too"
    lines = fs.read_lines(extended.checkpoint_log)
    assert lines[0]["env_steps"] == 2 * INTERVAL * ITERATION
    assert lines[0]["attempt"] == 0, "the first line is the copy's"
    assert load_snapshot(paths, "tiny.extend").env_steps_used == (WHOLE - 2) * INTERVAL * ITERATION


@pytest.mark.slow
def test_killed_in_the_middle_and_resumed_it_is_the_same(tmp_path, short, whole):
    paths = copied(short, tmp_path)
    command = [sys.executable, "-c", DRIVER, str(paths.root), str(WHOLE * INTERVAL * ITERATION)]
    begun = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    trials = paths.study("tiny.extend").trials

    def iteration() -> int:
        logs = list(trials.glob("*/metrics.jsonl"))
        return max((line.get("iteration", 0) for log in logs for line in fs.read_lines(log)), default=0)

    toy_study.wait_until(lambda: iteration() >= 3 * INTERVAL, timeout_s=300)
    kill_all(begun)
    extended = extend_tiny(paths)
    assert_same_rest(extended, whole)
    attempts = load_snapshot(paths, "tiny.extend").trials[0].attempts
    assert len(attempts) == 2
    assert attempts[0].first_env_step == 2 * INTERVAL * ITERATION


@pytest.mark.slow
def test_the_linear_schedule_stays_at_its_end_or_begins_anew(tmp_path):
    paths = train(tmp_path / "linear", 1, "linear")
    again = copied(paths, tmp_path)
    trial = load_snapshot(paths, "tiny").trials[0]
    first = fs.read_json(folder(paths, "tiny", trial).spec)["training"]["ppo"]["learning_rate"]
    stays = [line["learning_rate"] for line in progress(extend_tiny(paths, 2))]
    assert stays == pytest.approx([0.01 * first] * INTERVAL)
    anew = [line["learning_rate"] for line in progress(extend_tiny(again, 2, schedule="restart", factor=0.3))]
    wanted = [0.3 * first * max(1 - i / INTERVAL, 0.01) for i in range(1, INTERVAL + 1)]
    assert anew == pytest.approx(wanted)


# --- the toy worker -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> CampaignPaths:
    """Four finished toy trials of 30,000 env steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_ITERATION_S", "0.001")
        paths = CampaignPaths(tmp_path_factory.mktemp("searched"))
        toy_study.run(paths)
    return paths


def extend(paths: CampaignPaths, trials: list[int], env_steps: int = 60_000, **more: Any) -> Outcome:
    return extend_study(paths, "toy", trials=trials, env_steps=env_steps, **toy_study.options(**more))


def test_trials_go_on_side_by_side_and_only_what_is_new_counts(tmp_path, searched):
    paths = copied(searched, tmp_path)
    outcome = extend(paths, [2, 0])
    assert outcome.snapshot.parent is not None
    assert outcome.snapshot.parent.facts["trials"] == [2, 0]
    assert [trial.start.trial for trial in outcome.snapshot.trials if trial.start] == [2, 0]
    assert [trial.env_steps for trial in outcome.snapshot.trials] == [60_000, 60_000]
    assert outcome.snapshot.env_steps_used == 60_000
    assert min(outcome.snapshot.trials[0].reports) == 36_000, "the grid of the long budget, from where it goes on"
    before = load_snapshot(paths, "toy").trials
    assert [trial.parameters for trial in outcome.snapshot.trials] == [before[n].parameters for n in (2, 0)]
    started = [line for line in fs.read_lines(paths.study("toy.extend").decisions) if line["action"] == "started"]
    assert started[0]["reason"] == "from the checkpoint at 30,000 env steps of trial 2 of toy"


def test_more_trials_join_an_extension_and_what_has_ended_stays(tmp_path, searched):
    paths = copied(searched, tmp_path)
    first = extend(paths, [1])
    again = extend(paths, [1])
    assert again.snapshot.trials == first.snapshot.trials
    more = extend(paths, [1, 3])
    assert more.snapshot.trials[0] == first.snapshot.trials[0]
    assert [trial.start.trial for trial in more.snapshot.trials if trial.start] == [1, 3]
    assert more.snapshot.spec.budget.trials == 2


def test_an_extension_can_be_extended_and_keeps_its_learning_rate(tmp_path, searched):
    paths = copied(searched, tmp_path)
    extend(paths, [0])
    outcome = extend_study(paths, "toy.extend", trials=[0], env_steps=90_000, **toy_study.options())
    (trial,) = outcome.snapshot.trials
    assert trial.start is not None
    assert (trial.start.env_steps, trial.start.schedule_end, trial.env_steps) == (60_000, 30_000, 90_000)


def test_the_budget_of_env_steps_counts_new_ones_only(tmp_path):
    paths = CampaignPaths(tmp_path)
    shares = {"search": 0.5, "confirm": 0.0, "extend": 0.5}
    toy_study.run(paths, budget={"trials": 2, "env_steps": 120_000, "shares": shares})
    outcome = extend(paths, [0, 1])
    assert outcome.snapshot.spec.budget.env_steps == 60_000
    assert [trial.state for trial in outcome.snapshot.trials] == [TrialState.COMPLETE] * 2
    assert outcome.snapshot.env_steps_used == 60_000


def test_a_collapse_ends_a_training_where_that_is_asked_for(tmp_path, searched, monkeypatch):
    paths = copied(searched, tmp_path)
    monkeypatch.setenv("TOY_PLAN", '{"0": {"*": "collapse held"}}')
    (trial,) = extend(paths, [0], env_steps=150_000, stop_on_collapse=True).snapshot.trials
    assert trial.state is TrialState.PRUNED
    assert trial.reason.startswith("collapse")


def test_a_checkpoint_that_is_gone_when_its_turn_comes_fails_that_trial_alone(tmp_path, searched, monkeypatch):
    paths = copied(searched, tmp_path)
    lost = next(c for c in load_snapshot(paths, "toy").trials[2].checkpoints if c.env_steps == 30_000)

    class Loser:
        def update(self, snapshot: Any) -> None:
            (paths.study("toy").root / lost.path).unlink(missing_ok=True)

    monkeypatch.setenv("TOY_ITERATION_S", "0.2")
    outcome = extend(paths, [0, 2], slots=cpu_slots(1), observers=(Loser(),))
    kept, failed = outcome.snapshot.trials
    assert (kept.state, failed.state) == (TrialState.COMPLETE, TrialState.FAILED)
    assert failed.reason.endswith("the continuation of trial 2 of toy goes on from it and it is gone.")


def test_what_cannot_be_extended_is_refused(tmp_path, searched):
    paths = copied(searched, tmp_path)
    snapshot = load_snapshot(paths, "toy")
    with pytest.raises(StudyError, match=r"trial 9: study 'toy' has no such trial; it has 0 to 3"):
        extend(paths, [9])
    with pytest.raises(StudyError, match=r"--env-steps 30000: trial 0 of study 'toy' was trained for 30,000"):
        extend(paths, [0], env_steps=30_000)
    with pytest.raises(StudyError, match=r"--lr-factor 0.3: goes with --schedule restart"):
        extend_study(paths, "toy", trials=[0], env_steps=60_000, factor=0.3)
    for checkpoint in snapshot.trials[1].checkpoints:
        (paths.study("toy").root / checkpoint.path).unlink()
    with pytest.raises(StudyError, match=r"trial 1 .* removed to save space.*disk_budget_gb.*warm_start: \{study: toy"):
        extend(paths, [1])
    (paths.study("toy").root / snapshot.trials[3].checkpoints[-1].path).write_text("altered")
    point = next(c for c in snapshot.trials[3].checkpoints if c.env_steps == 30_000 and c.kind == "resume")
    (paths.study("toy").root / point.path).write_text("altered")
    with pytest.raises(CheckpointCorruptError, match=r"agent_30000.pt: was altered; see `vbot-campaign verify toy`"):
        extend(paths, [3])
    extend(paths, [0])
    with pytest.raises(
        StudyError, match=r"begun with 60,000 env steps, not 90,000.*extend toy.extend --env-steps 90000"
    ):
        extend(paths, [0], env_steps=90_000)
    with pytest.raises(StudyError, match=r"was begun with --schedule continue --lr-factor 1; go on with the same"):
        extend_study(paths, "toy", trials=[0], env_steps=60_000, schedule="restart", factor=0.3)


def test_a_failed_trial_and_one_that_has_not_ended_are_refused(tmp_path):
    paths = CampaignPaths(tmp_path)
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, with_defaults(toy_study.study_spec()))
    study.ask()
    study.ask()
    study.fail(0, "diverged: loss is not finite")
    storage.close()
    with pytest.raises(StudyError, match=r"trial 0 of study 'toy' failed \(diverged: loss is not finite\)"):
        extend(paths, [0])
    with pytest.raises(StudyError, match=r"trial 1 of study 'toy' has not ended"):
        extend(paths, [1])
