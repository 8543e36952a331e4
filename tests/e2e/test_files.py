"""Each template through the commands that use it, from ``new`` to a finished training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builders import TOY_COMMAND, cpu_slots
from tests.support.files import TEMPLATES, call, edited
from tests.support.stored_study import store_study
from vbot_campaign import fs
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths
from vbot_campaign.spec.kinds import KINDS
from vbot_campaign.spec.loading import load_study
from vbot_campaign.spec.schema import json_schema
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.study import close_readers
from vbot_campaign.supervisor import run_study

TINY = (
    *("--env-steps", "1024", "--num-envs", "16", "--threads", "1", "--device", "cpu", "--no-audit"),
    *("--set", "ppo.rollouts=16", "--set", "ppo.learning_epochs=1", "--set", "env.episode_seconds=1.0"),
    *("--set", "ppo.policy_hidden_layer_sizes=[32, 16]", "--set", "ppo.value_hidden_layer_sizes=[32, 16]"),
)
"""Flags that make a training small enough for a test."""

_SMALL = (
    ("env_steps_per_trial: 16_000_000", "env_steps_per_trial: 30_000"),
    ("  trials: 40", "  trials: 2"),
    ("num_envs: 1024", "num_envs: 64"),
    ("pruner: {name: rungs", "pruner: {name: none"),
    ("report_points: 30", "report_points: 10"),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(RUNS_VARIABLE, "runs")
    monkeypatch.setenv("COLUMNS", "80")
    yield tmp_path
    close_readers()


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("automl_config.yaml", ("Study automl_config", "Searched (13)", "ppo.learning_rate")),
        ("config_template.yaml", ("Training config_template", "652 iterations", "nothing")),
        ("plan_template.yaml", ("Plan plan_template", "2. main", "go on with the best", "112,000,000 env steps")),
        ("curriculum_plan_template.yaml", ("3. far", "reward.termination = -200", "learning rate x 0.3")),
        ("search_space_template.yaml", ("Search space for", "Preset reward_focus: 15 searched, 10 fixed")),
        ("reward_config_template.yaml", ("Reward weights for", "Preset far", "near_target_speed -3")),
    ],
)
def test_check_says_what_a_file_is(
    template: str,
    words: tuple[str, ...],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, "check", TEMPLATES / template) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    flat = " ".join(shown.split())
    assert [word for word in words if word not in flat] == []
    assert list(here.iterdir()) == [], "nothing is written"


def test_new_says_what_comes_next(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "new", "study", "mine") == 0
    assert capsys.readouterr().out.splitlines() == [
        "wrote studies/mine.yaml, a study made from automl_config.yaml",
        "edit it, then: vbot-campaign check studies/mine.yaml",
        "and then:      vbot-campaign run studies/mine.yaml",
    ]
    assert call(monkeypatch, "check", "studies/mine.yaml") == 0
    assert call(monkeypatch, "new", "study", "mine") == 2
    assert call(monkeypatch, "new", "search-space", "ranges", "--to", "ranges.yaml") == 0
    assert call(monkeypatch, "check", "ranges.yaml") == 0


def test_a_new_study_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The study template with a referenced search space and weights, on toy workers."""
    for kind, name in (("study", "mine"), ("search-space", "ranges"), ("reward", "weights")):
        assert call(monkeypatch, "new", kind, name, "--to", f"{name}.yaml") == 0
    text = edited(Path("mine.yaml").read_text(encoding="utf-8"), *_SMALL)
    start, end = text.index("search_space:\n"), text.index("# ── What is not searched")
    references = "search_space: {file: ranges.yaml, preset: reward_focus}\nreward: {file: weights.yaml, preset: walk}\n"
    Path("mine.yaml").write_text(text[:start] + references + text[end:], encoding="utf-8")
    spec = load_study(Path("mine.yaml"))
    outcome = run_study(
        CampaignPaths(Path("runs")), spec, worker_command=TOY_COMMAND, slots=cpu_slots(), poll_s=0.02, grace_s=20.0
    )
    assert [trial.state for trial in outcome.snapshot.trials] == [TrialState.COMPLETE] * 2
    first, second = (trial.parameters for trial in outcome.snapshot.trials)
    assert len(first) == 15
    assert all(name.startswith("reward.") for name in first)
    assert first["reward.forward_velocity"] == 2.0, "the first trial begins at the weights of the preset"
    assert first != second


def test_a_new_training_trains(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "new", "training", "mine", "--to", "mine.yaml") == 0
    text = Path("mine.yaml").read_text(encoding="utf-8")
    smaller = [("episodes: 128", "episodes: 4"), ("  arrival_bonus: 100.0", "  arrival_bonus: 90.0")]
    Path("mine.yaml").write_text(edited(text, *smaller), encoding="utf-8")
    assert call(monkeypatch, "train", "--config", "mine.yaml", "--seed", "7", *TINY) == 0
    assert "finished after 1,024 env steps" in capsys.readouterr().out
    (meta,) = (fs.read_json(path) for path in Path("runs").glob("*/*_PPO/experiment_meta.json"))
    assert (meta["run_tag"], meta["seed"], meta["env_steps"]) == ("mine", 7, 1024)
    assert meta["reward_scales"]["arrival_bonus"] == 90.0, "from the file"
    assert meta["rl_overrides"]["learning_epochs"] == 1, "the flag goes before the file"
    assert meta["rl_overrides"]["grad_norm_clip"] == 1.0


def test_weights_go_from_a_trial_into_a_study(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store_study(CampaignPaths(here / "runs"))
    for arguments in (
        ("save", "good", "--from", "walk:0", "--notes", "stops cleanly"),
        ("set", "good", "--status", "adopted"),
        ("list",),
        ("show", "good"),
        ("use", "good", "--in", "good.yaml"),
    ):
        assert call(monkeypatch, "rewards", *arguments) == 0
    shown = capsys.readouterr().out
    assert "wrote runs/reward_library/good.yaml" in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("good  ")]
    assert row.split()[1:6] == ["adopted", "0.600", "50%", "600,000", "walk:0"]
    assert call(monkeypatch, "new", "study", "next", "--to", "next.yaml") == 0
    text = Path("next.yaml").read_text(encoding="utf-8")
    Path("next.yaml").write_text(f"{text}reward: {{library: good}}\n", encoding="utf-8")
    assert call(monkeypatch, "check", "next.yaml") == 0
    assert call(monkeypatch, "check", "good.yaml") == 0
    assert "Reward weights for vbot_navigation_section001" in capsys.readouterr().out


def test_an_entry_that_somebody_broke_hides_no_other(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store_study(CampaignPaths(here / "runs"))
    assert call(monkeypatch, "rewards", "list") == 0
    assert "No entries in runs/reward_library" in capsys.readouterr().out
    assert call(monkeypatch, "rewards", "save", "good", "--from", "walk:0") == 0
    CampaignPaths(here / "runs").reward("bad").write_text("reward: [", encoding="utf-8")
    assert call(monkeypatch, "rewards", "list") == 0
    shown = capsys.readouterr().out
    assert "not valid" in shown
    assert "walk:0" in shown


def test_schemas_are_printed_and_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "schema", "search-space") == 0
    printed = json.loads(capsys.readouterr().out)
    assert call(monkeypatch, "schema", "--out", "schemas") == 0
    written = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in Path("schemas").iterdir()}
    assert written == {f"{kind}.schema.json": json_schema(kind) for kind in KINDS}
    assert printed == written["search_space.schema.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "check what.yaml",
            "what.yaml: cannot tell what it is. Begin it with one of study (a study), run_tag (a single",
        ),
        ("run plan.yaml", "plan.yaml: is a plan, not a study. What takes it: vbot-campaign campaign run plan.yaml."),
        ("train --config plan.yaml", "plan.yaml: is a plan, not a single training."),
        ("train --config bad.yaml", "bad.yaml:3: ppo.learning_rat: unknown key. Did you mean 'learning_rate'?"),
        ("train --config lost.yaml", "lost.yaml: no such file."),
        ("train --config start.yaml", "start.yaml:2: checkpoint: no file lost.pt; a relative path starts at this one."),
        ("train --config good.yaml --set ppo.mini_batches=7", "ppo.mini_batches: 7 does not divide"),
        ("train --config good.yaml --resume runs/x", "--config: --resume goes on with the settings of the run."),
        ("schema", "schema: name a kind (study, training, plan, search_space, reward), or --out DIR"),
        ("schema plna", "'plna' is no kind of file. Did you mean 'plan'?"),
        ("rewards use nix", "no entry 'nix'."),
    ],
)
def test_refused_in_one_line(
    arguments: str, message: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("what.yaml").write_text("about: nothing\n", encoding="utf-8")
    Path("plan.yaml").write_text("plan: x\nstages: []\n", encoding="utf-8")
    Path("bad.yaml").write_text("env_steps: 100_000\nppo:\n  learning_rat: 1e-3\n", encoding="utf-8")
    Path("start.yaml").write_text("env_steps: 100_000\ncheckpoint: lost.pt\n", encoding="utf-8")
    Path("good.yaml").write_text("env_steps: 100_000\n", encoding="utf-8")
    assert call(monkeypatch, *arguments.split()) == 2
    output, complaint = capsys.readouterr()
    assert output == ""
    assert message in complaint
    assert len(complaint.splitlines()) == 1
    assert not Path("runs").exists()
