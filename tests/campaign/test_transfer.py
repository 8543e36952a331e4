"""Points of elsewhere in a study's queue, by the command line, with the toy worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support import toy_study
from tests.support.builders import LEARNING_RATE, cpu_slots, study_spec
from tests.support.large_study import store_large_study
from vbot_campaign import fs
from vbot_campaign.campaign.transfer import enqueue_points, from_file, from_study, parse_source
from vbot_campaign.cli import app
from vbot_campaign.errors import CampaignError, FolderBusyError, SpecError, StudyNotFoundError
from vbot_campaign.exporters.mirrors import export_all
from vbot_campaign.exporters.reward_library import save_entry
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths
from vbot_campaign.spec.point_file import Candidate
from vbot_campaign.study.study import close_readers, load_snapshot
from vbot_campaign.supervisor import create_study, run_study

BONUS = {"type": "uniform", "low": 50.0, "high": 200.0, "prior": 100.0}
SPACE = {"ppo": {"learning_rate": LEARNING_RATE}, "reward": {"arrival_bonus": BONUS}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> CampaignPaths:
    """Return a runs folder with the finished study ``toy`` of three trials, and ``next`` that was never run."""
    paths = CampaignPaths(tmp_path_factory.mktemp("transfer") / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_ITERATION_S", "0.001")
        assert toy_study.run(paths, budget={"trials": 3}).state == "finished"
    return paths


@pytest.fixture
def paths(finished: CampaignPaths, monkeypatch: pytest.MonkeyPatch) -> Iterator[CampaignPaths]:
    monkeypatch.setenv(RUNS_VARIABLE, str(finished.root))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    yield finished
    close_readers()


def store(paths: CampaignPaths, name: str, **overrides: Any) -> None:
    create_study(paths, study_spec(study=name, **{"search_space": SPACE, "budget": {"trials": 4}, **overrides}))


def printed(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    return done.output


def refused(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(done.exception, CampaignError), done.output
    return str(done.exception)


def queue_of(paths: CampaignPaths, name: str) -> list[tuple[str, dict[str, Any]]]:
    return [(entry.trial.origin, entry.trial.parameters) for entry in load_snapshot(paths, name).queue]


def test_the_best_trials_of_a_study_become_the_first_of_the_next_one(paths: CampaignPaths) -> None:
    store(paths, "second")
    text = printed("enqueue", "second", "--from", "toy", "--top", "2")
    best = sorted(load_snapshot(paths, "toy").trials, key=lambda trial: -(trial.score or 0))[:2]
    assert "2 of 2 points queued for second" in text
    assert "more as the study has them" in text
    assert "vbot-campaign resume second" in text
    assert queue_of(paths, "second") == [
        (f"toy:{t.number}", {**t.parameters, "reward.arrival_bonus": 100.0}) for t in best
    ]
    outcome = run_study(paths, load_snapshot(paths, "second").spec, **toy_study.options(slots=cpu_slots(1)))
    assert [trial.origin for trial in outcome.snapshot.trials] == [*(f"toy:{t.number}" for t in best), None, None]
    assert refused("enqueue", "second", "--from", "toy", "--top", "2") == "study 'second': nothing was queued."


def test_a_file_of_the_field_is_read_clipped_and_told_about(paths: CampaignPaths, tmp_path: Path) -> None:
    store(paths, "third")
    seeds = [
        {"hp_config": {"lr": 2e-4, "max_env_steps": 9}, "reward_config": {"goal": 80, "termination_penalty": -75}},
        {"hp_config": {"learning_rate": 5e-3}, "reward_config": {"goal": 60}},
    ]
    file = tmp_path / "seeds.json"
    file.write_text(json.dumps(seeds))
    text = printed("enqueue", "third", "--file", file, "--map", "goal=reward.arrival_bonus")
    assert "1 of 2 points queued for third" in text
    assert "seeds.json[1]: left out\n  - ppo.learning_rate 0.005 is outside of 1e-05 .. 0.001" in text
    left_out = "left out: ppo.max_env_steps 9 (unknown here), reward.termination -75 (not searched; here -100)"
    assert left_out in " ".join(text.split())
    again = printed("enqueue", "third", "--file", file, "--map", "goal=reward.arrival_bonus", "--clip")
    assert "seeds.json[0]: left out\n  - is the same point as the queued seeds.json[0]" in again
    assert "moved into the range: ppo.learning_rate 0.005 -> 0.001" in again
    assert queue_of(paths, "third") == [
        ("seeds.json[0]", {"ppo.learning_rate": 2e-4, "reward.arrival_bonus": 80.0}),
        ("seeds.json[1]", {"ppo.learning_rate": 1e-3, "reward.arrival_bonus": 60.0}),
    ]


def test_the_experiments_and_the_state_that_we_write_are_points_too(paths: CampaignPaths) -> None:
    store(paths, "fourth")
    export_all(paths, "toy")
    toy = paths.study("toy")
    rates = [trial.parameters["ppo.learning_rate"] for trial in load_snapshot(paths, "toy").trials]
    for file in (toy.experiment(1), toy.config(1)):
        [point] = from_file(paths, "fourth", file, [], None)
        assert point.values["ppo.learning_rate"] == pytest.approx(rates[1])
    history = from_file(paths, "fourth", toy.automl_state, [], 1)
    assert [point.score for point in history] == [max(t.score or 0 for t in load_snapshot(paths, "toy").trials)]


def test_weights_of_the_reward_library_are_a_point(paths: CampaignPaths) -> None:
    store(paths, "fifth")
    save_entry(paths, "calm", "toy:0")
    text = printed("enqueue", "fifth", "--reward", "calm")
    assert "library calm: queued" in text
    assert queue_of(paths, "fifth") == [("library calm", {"ppo.learning_rate": 3e-4, "reward.arrival_bonus": 100.0})]
    assert "no entry 'clam'. Did you mean 'calm'" in refused("enqueue", "fifth", "--reward", "clam")


def test_a_running_supervisor_trains_what_is_queued_meanwhile(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_ITERATION_S", "0.1")
    told: list[str] = []

    def listen(decision: Any) -> None:
        if decision.action == "started" and not told:
            enqueue_points(paths, "toy9", [Candidate("by hand", {"ppo.learning_rate": 7e-5})], clip=False)
            told.append("queued")
            monkeypatch.setenv("TOY_ITERATION_S", "0.001")

    spec = study_spec(study="toy9", budget={"trials": 2})
    outcome = run_study(paths, spec, **toy_study.options(slots=cpu_slots(1), progress=listen))
    assert told
    assert [trial.origin for trial in outcome.snapshot.trials] == [None, "by hand"]
    assert outcome.snapshot.trials[1].parameters == {"ppo.learning_rate": 7e-5}


def test_a_budget_without_room_is_said_with_the_command_that_makes_it(paths: CampaignPaths, tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    file.write_text('{"learning_rate": 0.00011}')
    text = printed("enqueue", "toy", "--file", file)
    assert "1 wait in the queue, and the budget has room for 0 more trials. Raise it:" in text
    assert "resume toy --trials +1" in text


def test_a_study_file_that_was_never_run_is_stored_with_its_queue(paths: CampaignPaths, tmp_path: Path) -> None:
    file = tmp_path / "fresh.yaml"
    file.write_text(
        (Path(__file__).parents[2] / "studies/quickstart.yaml").read_text().replace("study: quickstart", "study: fresh")
    )
    seed = tmp_path / "seed.json"
    seed.write_text('{"learning_rate": 0.0011}')
    text = printed("enqueue", file, "--file", seed)
    assert "stored study fresh" in text
    assert [point["ppo.learning_rate"] for _, point in queue_of(paths, "fresh")] == [0.0011]
    assert load_snapshot(paths, "fresh").state == "created"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["toy"], "give one of --from STUDY, --file FILE and --reward ENTRY"),
        (["toy", "--from", "toy", "--reward", "calm"], "give one of"),
        (["toy", "--from", "toy:x"], "--from toy:x: expected STUDY or STUDY:TRIAL,TRIAL"),
        (["toy", "--from", "toy:7"], "trial 7: study 'toy' has no such trial; it has 0 to 2"),
        (["toy", "--from", "nobody"], "study 'nobody': not found"),
        (["nobody", "--from", "toy"], "study 'nobody': not found"),
        (["toy", "--from", "toy:1", "--top", "2"], "--top 2: chooses among"),
        (["toy", "--from", "toy", "--map", "a=ppo.learning_rate"], "--map: renames what stands in a --file"),
        (["toy", "--file", "nowhere.json"], "nowhere.json: no such file"),
    ],
)
def test_what_cannot_be_queued_is_refused_in_one_line(paths: CampaignPaths, words: list[str], message: str) -> None:
    text = refused("enqueue", *words)
    assert message in text
    assert "\n" not in text


def test_a_rename_of_nothing_and_a_missing_score_are_refused(paths: CampaignPaths, tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    file.write_text('{"learning_rate": 0.0002}')
    with pytest.raises(SpecError, match=r"--map goal=reward.arrival_bonus: no point in"):
        from_file(paths, "toy", file, ["goal=reward.arrival_bonus"], None)
    with pytest.raises(SpecError, match="--top 1: not every point in"):
        from_file(paths, "toy", file, [], 1)
    with pytest.raises(StudyNotFoundError):
        from_study(paths, "nobody", 3)
    assert parse_source("a.b:4,7") == ("a.b", [4, 7])


def test_two_who_queue_at_once_do_not_lose_each_others_points(paths: CampaignPaths) -> None:
    with (
        fs.hold_lock(paths.study("toy").queue_lock, what="test"),
        pytest.raises(FolderBusyError, match="the queue of study toy is in use"),
    ):
        enqueue_points(paths, "toy", [], clip=False)


def test_a_space_around_a_trial_is_printed_or_written_as_a_study(paths: CampaignPaths, tmp_path: Path) -> None:
    trial = max(load_snapshot(paths, "toy").trials, key=lambda t: t.score or 0)
    rate = trial.parameters["ppo.learning_rate"]
    text = printed_wide("space", "toy", "--around", f"toy:{trial.number}")
    assert f"around trial {trial.number} of toy, score {trial.score:.4f}: 50% of each range." in text
    assert f"prior: {rate}" in text
    target = tmp_path / "near.yaml"
    said = printed_wide("space", "toy", "--around", f"toy:{trial.number}", "--width", "0.2", "--output", target)
    assert f"wrote {target.as_posix()}, study near." in said
    assert "near" in printed_wide("check", target)
    assert "is there already" in refused("space", "toy", "--around", "toy:0", "--output", target)
    assert "would be named toy" in refused("space", "toy", "--around", "toy:0", "--output", tmp_path / "toy.yaml")
    assert "--around toy: expected STUDY:TRIAL" in refused("space", "toy", "--around", "toy")
    assert "--width 0: is not valid" in refused("space", "toy", "--around", "toy:0", "--width", "0")


def printed_wide(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def test_importance_needs_trials_that_say_something(paths: CampaignPaths) -> None:
    assert refused("importance", "toy").startswith("study 'toy': 3 complete trials say nothing about its parameters")


def test_importance_by_fanova_of_a_stored_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store_large_study(CampaignPaths(tmp_path), 40, with_files=0).close()
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    text = printed_wide("importance", "big", "--method", "fanova")
    assert "What decides the score of big: fANOVA over" in text
    first = next(line.split() for line in text.splitlines() if line.startswith("  ppo."))
    assert first[0] == "ppo.learning_rate", "which decides the scores of this study"
    found = json.loads(printed_wide("importance", "big", "--method", "fanova", "--json"))
    assert found["method"] == "fANOVA"
    assert sum(found["shares"].values()) == pytest.approx(1.0)
