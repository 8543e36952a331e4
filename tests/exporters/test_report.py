"""What a report says: numbers, verdict, tables, and what becomes of names that are meant to do harm."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.large_study import store_large_study
from tests.support.snapshots import (
    EVALUATION,
    START,
    STEPS,
    make_attempt,
    make_failed,
    make_pruned,
    make_running,
    make_snapshot,
    make_spec,
    make_trial,
    write_study,
)
from tests.support.stored_study import store_study
from tests.support.workers import run_worker, tiny_trial
from vbot_campaign import fs
from vbot_campaign.cli import app
from vbot_campaign.exporters.report import data as numbers
from vbot_campaign.exporters.report import evaluations, html, markdown, tables
from vbot_campaign.exporters.report.data import ReportData, collect
from vbot_campaign.exporters.report.verdict import Level, Verdict, judge
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.spec.loading import build_training
from vbot_campaign.study.snapshot import AlertView, StudySnapshot

NOW = datetime(2026, 2, 1, tzinfo=UTC)
HARM = "<script>alert(1)</script><img src=http://x.test/a.png> | `x` **b**"


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    return CampaignPaths(tmp_path / "runs")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> CampaignPaths:
    """A study of forty ended trials, the best three with metrics."""
    paths = CampaignPaths(tmp_path_factory.mktemp("big"))
    store_large_study(paths, 40, with_files=3).close()
    return paths


def report(paths: CampaignPaths, snapshot: StudySnapshot) -> ReportData:
    return collect(paths, snapshot, NOW)


def invoke(paths: CampaignPaths, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["--runs", str(paths.root), "report", *words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


class Page(HTMLParser):
    """The elements, texts and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_the_best_so_far_only_rises_and_counts_complete_trials_alone() -> None:
    trials = [
        make_trial(0, score=0.5, ended=START + timedelta(hours=1)),
        make_pruned(1, score=0.9, ended=START + timedelta(hours=2)),
        make_trial(2, score=0.4, ended=START + timedelta(hours=3)),
        make_trial(3, score=0.7, ended=START + timedelta(hours=2.5)),
        make_running(4),
    ]
    points = numbers.history(trials)
    assert [(p.trial, p.hours, p.best) for p in points] == [(0, 1, 0.5), (1, 2, 0.5), (3, 2.5, 0.7), (2, 3, 0.7)]
    assert [p.env_steps for p in points] == [STEPS, 1.5 * STEPS, 2.5 * STEPS, 3.5 * STEPS]


def test_cost_counts_slots_threads_and_what_was_trained_twice() -> None:
    again = (
        make_attempt(last_env_step=400_000),
        make_attempt(number=2, first_env_step=350_000, ended=START + timedelta(minutes=12)),
    )
    trials = (make_trial(0, attempts=again), make_pruned(1), make_failed(2, attempts=(make_attempt(slot="gpu:0.1"),)))
    spec = make_spec(workers={"num_envs": 256, "slots_per_gpu": 2})
    cost = numbers.cost(make_snapshot(trials=trials, spec=spec), {"threads": {"torch": 2, "physics": 3}})
    assert cost.slot_hours == pytest.approx(0.1 + 0.2 + 0.1)
    assert cost.core_hours == pytest.approx(3 * 0.4)
    assert cost.gpu_hours == pytest.approx(0.05)
    assert (cost.attempts, cost.interrupted, cost.again) == (4, 1, 50_000)
    # Of two ended trials one was spared half of its env steps.
    assert (cost.pruned_steps, cost.share_saved) == (STEPS // 2, 0.25)


def test_failures_of_one_cause_are_one_line() -> None:
    trials = [make_failed(n, reason=f"diverged in iteration {10 * n}: loss is not finite") for n in (1, 4)]
    found = numbers.failures([*trials, make_failed(7, reason="out of disk"), make_trial(8)])
    assert [(f.cause, f.trials) for f in found] == [
        ("diverged in iteration 10: loss is not finite", (1, 4)),
        ("out of disk", (7,)),
    ]


def test_quantiles_interpolate_and_need_enough_trials() -> None:
    trials = [make_trial(n, reports={100: n / 4, 200: 1.0} if n < 4 else {100: 1.0}) for n in range(5)]
    assert numbers.band(trials) == ((100, pytest.approx(0.1), 0.5, pytest.approx(0.9)),)


def test_positions_in_ranges_follow_their_scales() -> None:
    parameters = make_spec().parameters
    assert numbers.position_in_range(parameters["ppo.learning_rate"], 1e-4) == pytest.approx(0.5)
    assert numbers.position_in_range(parameters["reward.arrival_bonus"], 87.5) == pytest.approx(0.25)
    assert numbers.position_in_range(parameters["ppo.policy_hidden_layer_sizes"], [128, 64]) is None


def test_files_are_read_of_the_best_trials_only(big: CampaignPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    from vbot_campaign.study import load_snapshot

    opened: list[TrialPaths] = []
    read = numbers.read_curves
    monkeypatch.setattr(numbers, "read_curves", lambda folder, **o: opened.append(folder) or read(folder, **o))
    data = report(big, load_snapshot(big, "big"))
    assert len(data.snapshot.trials) == 40
    assert len(opened) == numbers.TOP
    assert [bool(data.curves[trial.number].env_steps) for trial in data.top] == [True] * 3 + [False] * 2


# --- verdict ----------------------------------------------------------------------------------------------------------


def verdict(paths: CampaignPaths, **overrides: object) -> Verdict:
    return judge(report(paths, make_snapshot(**overrides)))


def said(verdict: Verdict, level: Level) -> str:
    return "\n".join(finding.text for finding in verdict.findings if finding.level is level)


def test_a_small_unfinished_study_is_said_to_be_one(paths: CampaignPaths) -> None:
    found = verdict(paths)
    assert found.headline == "Trial 0 is the best of 1: score 0.600"
    assert found.achieved.startswith("success 50%, survival 75%")
    assert found.achieved.endswith("128 evaluation episodes")
    assert "not finished" in said(found, Level.CARE)
    assert "1 trial complete, 0 pruned; ranking and importances are rough" in said(found, Level.CARE)
    assert "between 41.5% and 58.5%" in said(found, Level.NOTE)


def test_an_empty_study_has_no_verdict(paths: CampaignPaths) -> None:
    assert verdict(paths, trials=()).headline == "No trial has begun yet."
    assert verdict(paths, trials=(make_failed(0),)).headline == "No trial has a score yet."


def test_a_best_value_at_the_edge_of_its_range_is_said(paths: CampaignPaths) -> None:
    edge = make_trial(0, parameters={"ppo.learning_rate": 9.9e-4, "reward.arrival_bonus": 51.0})
    text = said(verdict(paths, trials=(edge,)), Level.CARE)
    assert "ppo.learning_rate = 0.00099 (to 0.001); reward.arrival_bonus = 51 (from 50)" in text


def test_a_policy_that_never_succeeds_is_bad_whatever_its_score(paths: CampaignPaths) -> None:
    found = verdict(paths, trials=(make_trial(0, score=0.9, evaluation={**EVALUATION, "success": 0}),))
    assert found.level is Level.BAD
    assert "does not do the task" in said(found, Level.BAD)


def test_trials_that_chance_cannot_tell_apart_are_said(paths: CampaignPaths) -> None:
    near = make_trial(1, score=0.59, evaluation={**EVALUATION, "success": 60})
    far = make_trial(1, score=0.2, evaluation={**EVALUATION, "success": 10})
    assert "intervals overlap" in said(verdict(paths, trials=(make_trial(0), near)), Level.NOTE)
    assert "intervals overlap" not in said(verdict(paths, trials=(make_trial(0), far)), Level.NOTE)


def test_the_other_engine_and_failures_and_alerts_ask_for_care(paths: CampaignPaths) -> None:
    alert = AlertView("2026-01-31T12:00:00.000Z", "error", "low_disk", "The disk is full.")
    data = report(paths, make_snapshot(trials=(make_trial(0), make_failed(1)), alerts=(alert,)))
    played = {engine: {"parts": {"success_rate": rate}} for engine, rate in (("mujoco", 0.9), ("motrixsim", 0.4))}
    text = said(judge(replace(data, played={0: played})), Level.CARE)
    assert "Success is 90.0% in mujoco and 40.0% in motrixsim" in text
    assert "1 of 2 ended trials failed" in text
    assert "The disk is full." in text


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_has_every_section_and_asks_nobody_for_anything(big: CampaignPaths) -> None:
    said = invoke(big, "big")
    file = big.study("big").report
    assert str(file) in said
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    sections = ("history", "parameters", "outcomes", "top", "policies", "training", "failures", "cost", "again")
    assert [f"#{name}" for name in sections] == [a for a in page.addresses if a.startswith("#")]
    assert {a for a in page.addresses if not a.startswith("#")} == {"data:,"}
    assert not {"script", "img", "iframe", "object"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert len(text) < 400_000


def test_the_same_is_written_as_markdown(big: CampaignPaths, tmp_path: Path) -> None:
    file = tmp_path / "out" / "r.md"
    invoke(big, "big", "--markdown", "--output", str(file))
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# big\n")
    importances = [f"What decides the score ({method})" for method in ("PED-ANOVA", "fANOVA")]
    for title in (*importances, "Best trials", "Failures", "Cost", "Do it again"):
        assert f"\n## {title}\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| ppo.learning_rate |")]
    assert len(rows) == len(importances)
    # All rows of a table have as many cells as its head.
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.replace(r"\|", "").count("|") for line in table.splitlines()}) == 1


@pytest.mark.parametrize("state", ["running", "stopped", "finished"])
def test_a_study_of_any_state_can_be_reported(paths: CampaignPaths, state: str) -> None:
    for trials in ((), (make_running(0),), (make_failed(0),), (make_pruned(0), make_running(1))):
        data = report(paths, make_snapshot(state=state, trials=trials))
        assert Page(html.render(data)).tags.count("section") >= 3
        assert markdown.render(data).startswith("# walk\n")


def test_nothing_that_a_person_can_name_becomes_markup(paths: CampaignPaths) -> None:
    alert = AlertView("2026-01-31T12:00:00.000Z", "error", "x", HARM, HARM, 1)
    trials = (make_trial(0, reason=HARM), make_pruned(1, reason=HARM), make_failed(2, reason=HARM))
    data = report(paths, make_snapshot(trials=trials, reason=HARM, alerts=(alert,)))
    data = replace(data, meta={"device": HARM, "versions": {HARM: HARM}, "git": {"commit": HARM}})
    page = Page(html.render(data))
    assert not {"script", "img"} & set(page.tags)
    assert sum(HARM in words for words in page.words) >= 4
    text = re.sub(r"```.*?```", "", markdown.render(data), flags=re.DOTALL)
    assert re.findall(r"(?<!\\)<", text) == []


def test_the_best_training_can_be_repeated_from_its_command(paths: CampaignPaths) -> None:
    snapshot = make_snapshot(state="finished")
    write_study(paths, snapshot)
    data = report(paths, snapshot)
    words = shlex.split(tables.commands(data)[-1].replace("\\\n", ""))
    assert words[:2] == ["vbot-campaign", "train"]
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    # What was sampled or fixed to something else than its default; the sampled layers are the default ones.
    assert [setting.partition("=")[0] for setting in settings] == [
        "ppo.learning_rate",
        "ppo.lambda_param",
        "reward.arrival_bonus",
        "env.spawn_outer_radius",
    ]
    given = data.configs[0].training
    assert given is not None
    again = build_training(given.environment, STEPS, settings, num_envs=256)
    assert words[words.index("--num-envs") + 1] == "256"
    assert (again.ppo, again.num_envs, again.env_steps) == (given.ppo, given.num_envs, given.env_steps)
    assert again.reward["arrival_bonus"] == given.reward["arrival_bonus"]


def test_an_unknown_study_is_one_line(paths: CampaignPaths) -> None:
    store_study(paths)
    from vbot_campaign.errors import StudyNotFoundError

    with pytest.raises(StudyNotFoundError, match="Did you mean 'walk'"):
        invoke(paths, "walks")


# --- policies ---------------------------------------------------------------------------------------------------------


def trained(paths: CampaignPaths) -> StudySnapshot:
    """Return a study whose only trial has a policy that really was trained, if not for long."""
    snapshot = make_snapshot(state="finished")
    folder = tiny_trial(paths.study("walk").root / str(snapshot.trials[0].folder), env_steps=512 * 2)
    run_worker(folder)
    (checkpoint,) = snapshot.trials[0].checkpoints
    file = folder.best_checkpoint
    known = replace(checkpoint, sha256=fs.sha256(file), bytes=file.stat().st_size)
    return replace(snapshot, trials=(replace(snapshot.trials[0], checkpoints=(known,)),))


@pytest.mark.slow
def test_policies_are_played_once_and_kept_by_their_hash(paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluations, "is_installed", lambda engine: engine == "mujoco")
    snapshot, folder, lines = trained(paths), paths.study("walk"), []
    evaluations.evaluate_missing(folder, snapshot.trials, lines.append)
    assert lines == [
        "motrixsim is not installed, so no policy is played in it.",
        "trial 0: playing its best policy in mujoco ...",
    ]
    hash_ = snapshot.trials[0].checkpoints[0].sha256
    assert fs.read_json(folder.policy_evaluation(hash_, "mujoco"))["episodes"]["finished"] == 8
    evaluations.evaluate_missing(folder, snapshot.trials, lines.append)
    assert len(lines) == 3  # only that one engine is missing
    data = report(paths, snapshot)
    group, row = tables.policies(data).rows
    assert (group.cells, row.cells[0]) == (("trial 0",), "mujoco")
    assert "motrixsim" in html.policies_note(data)


def test_a_policy_that_cannot_be_played_is_said_and_left_out(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluations, "is_installed", lambda engine: engine == "mujoco")
    snapshot, lines = make_snapshot(trials=(make_trial(0), make_trial(1, checkpoints=()))), []
    written = write_study(paths, snapshot)
    changed = paths.study("walk").root / written.trials[0].checkpoints[0].path
    evaluations.evaluate_missing(paths.study("walk"), written.trials, lines.append)
    assert any("cannot be played in mujoco: " in line and "cannot be read" in line for line in lines)
    assert lines[-1] == "trial 1: no policy on disk"
    changed.write_bytes(b"another")
    evaluations.evaluate_missing(paths.study("walk"), written.trials[:1], lines.append)
    assert "is not the one that the study knows" in lines[-1]
    assert evaluations.kept(paths.study("walk"), written.trials) == {0: {}}
