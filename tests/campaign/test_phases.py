"""Search and confirmation as one command, through the real command line; the toy worker trains."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import toy_study
from tests.support.builders import TOY_COMMAND, study_spec
from tests.support.campaign import Campaign, assert_fits_80_columns, kill_everything
from vbot_campaign import fs
from vbot_campaign.campaign.confirm import Confirmed
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.snapshot import StudySnapshot, TrialState
from vbot_campaign.study.study import close_readers


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_ITERATION_S", "0.02")
    monkeypatch.setenv("TOY_LUCK", "0.1")


def write(folder: Path, **changes: Any) -> Path:
    """Write a study of three toy trials on one slot that asks for a confirmation of the best two."""
    values = {
        "budget": {"trials": 3},
        "confirm": {"top": 2, "seeds": 3},
        "trainer": {"command": list(TOY_COMMAND), "folder": str(Path.cwd())},
        "workers": {"num_envs": 100, "slots": 1, "recording": "none"},
        **changes,
    }
    spec = study_spec(**values)
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True)), encoding="utf-8")
    return path


def campaign(folder: Path, **changes: Any) -> Campaign:
    write(folder, **changes)
    return Campaign(folder)


def confirmed(made: Campaign) -> Confirmed | None:
    close_readers()
    kept = load_snapshot(made.runs, "toy").confirmed
    return None if kept is None else Confirmed.from_record(kept)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_ITERATION_S", "0.001")
        patch.setenv("TOY_LUCK", "0.1")
        made = campaign(tmp_path_factory.mktemp("undisturbed"))
        return made, made.call("run", "toy.yaml", "--no-audit")


def test_run_goes_on_with_the_confirmation_by_itself(undisturbed: tuple[Campaign, str]) -> None:
    made, printed = undisturbed
    found = confirmed(made)
    assert found is not None
    assert len(found.candidates) == 2
    assert "toy · confirmation finished" in printed
    assert f"  {found.seeds[0]} " in printed
    assert "wins: highest low end" in printed
    assert_fits_80_columns(made.call("confirm", "toy"))
    assert f"Confirmed: trial {found.winner}, IQM {found.candidates[0].interval}" in one_line(made.call("best", "toy"))


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.slow
@pytest.mark.parametrize(("study", "trial"), [("toy", 1), ("toy.confirm", 3)])
def test_killed_in_the_search_or_the_confirmation_resume_ends_as_undisturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[Campaign, str], study: str, trial: int
) -> None:
    # One trial dozes until it is killed: of the search, or of the confirmation alone, as the search has none of its
    # number.
    monkeypatch.setenv("TOY_PLAN", json.dumps({str(trial): {"1": "doze"}}))
    made = campaign(tmp_path)
    begun = made.start("run", "toy.yaml", "--no-audit")
    trials = made.runs.study(study).trials
    wait_for(begun, lambda: len(list(trials.glob("*/metrics.jsonl"))) > trial)
    kill_everything(begun)
    monkeypatch.delenv("TOY_PLAN")
    assert confirmed(made) is None
    printed = made.call("resume", "toy")
    assert "toy · confirmation finished" in printed
    assert ("goes on with its confirmation, study toy.confirm;" in printed) is ("." in study)
    assert confirmed(made) == confirmed(undisturbed[0])
    for name in ("toy", "toy.confirm"):
        assert results(load_snapshot(made.runs, name)) == results(load_snapshot(undisturbed[0].runs, name))


def results(snapshot: StudySnapshot) -> list[tuple[Any, ...]]:
    return [(trial.parameters, trial.seed, trial.score, trial.origin) for trial in snapshot.trials]


def wait_for(process: subprocess.Popen[str], condition: Any) -> None:
    def reached() -> bool:
        assert process.poll() is None, process.communicate()[0]
        return bool(condition())

    toy_study.wait_until(reached, timeout_s=300)


@pytest.mark.slow
def test_a_search_whose_budget_is_used_up_is_confirmed_too_and_killed_in_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second trial of each study dozes in its middle until it is stopped or killed: the first study's is cut off by
    # the env steps, however slow the machine, and waits for more of them.
    monkeypatch.setenv("TOY_PLAN", '{"1": {"1": "doze"}}')
    made = campaign(tmp_path, budget={"env_steps": 45_000}, confirm={"top": 2, "seeds": 2})
    begun = made.start("run", "toy.yaml", "--no-audit")
    wait_for(begun, lambda: len(list(made.runs.study("toy.confirm").trials.glob("*/metrics.jsonl"))) >= 2)
    kill_everything(begun)
    before = load_snapshot(made.runs, "toy")
    assert (before.state, before.reason) == ("stopped", "budget of env steps used (45,000)")
    assert [trial.state for trial in before.trials] == [TrialState.COMPLETE, TrialState.WAITING]
    monkeypatch.delenv("TOY_PLAN")
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    printed = made.call("resume", "toy")
    assert "study toy: goes on with its confirmation, study toy.confirm;" in printed
    assert "toy · confirmation finished" in printed
    assert load_snapshot(made.runs, "toy").trials == before.trials
    assert [len(trial.attempts) for trial in load_snapshot(made.runs, "toy.confirm").trials] == [1, 2]
    assert "goes on with" not in made.call("resume", "toy"), "all is done"


@pytest.mark.slow
def test_a_stage_on_the_command_line_searches_confirms_and_trains_the_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    made = campaign(tmp_path, budget={"trials": 2}, confirm={"top": 2, "seeds": 1})
    stage = ("run", "toy.yaml", "--no-audit", "--mode", "stage", "--full-env-steps", "60k")
    printed = made.call(*stage)
    assert "study toy.stage: the search is over; the best 2 on 1 fresh seeds follow" in printed
    assert "toy.stage · confirmation finished" in printed
    assert "Study toy.stage.extend is finished (all trials have ended): 1 complete." in printed
    winner = Confirmed.from_record(load_snapshot(made.runs, "toy.stage").confirmed or {}).winner
    (trial,) = load_snapshot(made.runs, "toy.stage.extend").trials
    assert trial.start is not None
    assert (trial.start.trial, trial.env_steps) == (winner, 60_000)
    for part in ("toy.stage", "toy.stage.confirm", "toy.stage.extend"):
        assert f"report: {made.runs.study(part).report}" in printed
        assert made.runs.study(part).report.is_file()
    made.call(*stage)
    close_readers()
    assert load_snapshot(made.runs, "toy.stage.extend").trials == (trial,), "nothing is trained twice"


@pytest.mark.slow
def test_resume_goes_on_with_an_extension_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = campaign(tmp_path, budget={"trials": 2}, confirm={"top": 1, "seeds": 1})
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    made.call("run", "toy.yaml", "--no-audit")
    monkeypatch.setenv("TOY_PLAN", '{"0": {"1": "doze"}}')  # in its middle, until it is killed
    begun = made.start("extend", "toy", "--trials", "0,1", "--env-steps", "90k")
    wait_for(begun, lambda: reached(made, 0) >= 40_000)
    kill_everything(begun)
    printed = made.call("resume", "toy")
    assert "study toy: goes on with its extension, study toy.extend; 0 trainings have ended" in printed
    assert "Study toy.extend is finished (all trials have ended): 2 complete." in printed
    close_readers()
    first, second = load_snapshot(made.runs, "toy.extend").trials
    assert (first.env_steps, second.env_steps) == (90_000, 90_000)
    assert [attempt.first_env_step >= 35_000 for attempt in first.attempts] == [False, True]
    assert [len(trial.attempts) for name in ("toy", "toy.confirm") for trial in load_snapshot(made.runs, name).trials] \
        == [1, 1, 1]  # fmt: skip
    assert "goes on with" not in made.call("resume", "toy"), "all is done"


def reached(made: Campaign, trial: int) -> int:
    """Return the env step that a trial of the extension has come to."""
    logs = made.runs.study("toy.extend").trials.glob(f"{trial:04d}_*/metrics.jsonl")
    return max((line["env_steps"] for log in logs for line in fs.read_lines(log) if "env_steps" in line), default=0)


def test_a_confirmation_that_has_used_its_share_goes_on_with_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    shares = {"search": 0.5, "confirm": 0.5, "extend": 0.0}
    budget = {"trials": 1, "env_steps": 90_000, "shares": shares}  # of which the search leaves 60,000
    made = campaign(tmp_path, budget=budget, confirm={"top": 1, "seeds": 3})
    assert "(budget of env steps used (60,000))" in made.call("run", "toy.yaml", "--no-audit")
    assert confirmed(made) is None, "one of three seeds is left"
    assert "give more: vbot-campaign confirm toy --seeds" in made.call(
        "resume", "toy.confirm", "--trials", "+1", code=2
    )
    printed = made.call("resume", "toy.confirm", "--env-steps", "+50k")
    assert "budget of env steps: 60,000 -> 110,000" in printed
    assert "toy · confirmation finished" in printed


@pytest.mark.slow
def test_stop_and_resume_know_which_part_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    # The second training of the confirmation dozes in its middle until it is stopped; the search has one trial only.
    monkeypatch.setenv("TOY_PLAN", '{"1": {"1": "doze"}}')
    made = campaign(tmp_path, budget={"trials": 1}, confirm={"top": 1, "seeds": 2})
    begun = made.start("run", "toy.yaml", "--no-audit")
    wait_for(begun, lambda: len(list(made.runs.study("toy.confirm").trials.glob("*/metrics.jsonl"))) >= 2)
    assert "Asked the supervisor of toy.confirm to stop" in made.call("stop", "toy")
    printed, _ = begun.communicate(timeout=300)
    assert begun.returncode == 0, printed
    assert "confirmation stopped" in printed
    assert "confirmation finished" in made.call("resume", "toy.confirm")
    assert confirmed(made) is not None


def test_extend_on_the_command_line(undisturbed: tuple[Campaign, str]) -> None:
    made, _ = undisturbed
    assert "say which trials: --top 3" in made.call("extend", "toy", "--env-steps", "60k", code=2)
    assert "only the builtin trainer can restart" in made.call(
        "extend", "toy", "--top", "1", "--env-steps", "60k", "--schedule", "restart", code=2
    )
    printed = made.call("extend", "toy", "--trials", "2,0", "--env-steps", "60k")
    assert "Study toy.extend is finished (all trials have ended): 2 complete." in printed
    close_readers()
    starts = [trial.start for trial in load_snapshot(made.runs, "toy.extend").trials]
    assert [start.trial for start in starts if start is not None] == [2, 0]


def test_a_block_may_be_added_to_a_stored_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    made = campaign(tmp_path, budget={"trials": 1}, confirm=None)
    assert "confirmation" not in made.call("run", "toy.yaml", "--no-audit")
    write(tmp_path, budget={"trials": 1}, confirm={"top": 1, "seeds": 1})
    assert "toy · confirmation finished" in made.call("run", "toy.yaml", "--no-audit")
