"""`trainer:` in a study: what is taken, where a command runs, what is refused and with which words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.study_text import study_text, write_study
from vbot_campaign.errors import SpecError
from vbot_campaign.spec.loading import build_training, definition, load_study, study_from_definition, study_from_text
from vbot_campaign.spec.resolve import definition_changes, resolve_training
from vbot_campaign.spec.trainable import training_problems
from vbot_campaign.spec.trainer import trainer_names, trainer_problems
from vbot_campaign.spec.training import CommandTrainer, TrainingSpec

PHYSICS = "physics: mujoco\n"


def with_trainer(text: str) -> tuple[str, str]:
    return PHYSICS, f"{PHYSICS}trainer: {text}\n"


def refusal(*edits: tuple[str, str]) -> str:
    with pytest.raises(SpecError) as error:
        study_from_text(study_text(*edits), "x.yaml")
    return str(error.value)


def test_without_the_key_the_builtin_trains() -> None:
    study = study_from_text(study_text())
    assert study.trainer == "builtin"
    stored = definition(study)
    assert stored.pop("trainer") == "builtin"
    assert study_from_definition(stored) == study, "a study that was stored before there were others"


def test_the_trainer_is_recorded_with_every_trial() -> None:
    study = study_from_text(study_text(with_trainer("skrl")))
    assert resolve_training(study, {"ppo.rollouts": 16}).trainer == "skrl"
    assert definition_changes(study_from_text(study_text()), study).differences == ("trainer: builtin -> skrl",)


def test_a_command_runs_in_the_study_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    write_study(tmp_path, with_trainer("{command: [python, mine.py, --fast]}"))
    monkeypatch.chdir(tmp_path.parent)
    study = load_study(Path(tmp_path.name) / "x.yaml")
    assert study.trainer == CommandTrainer(command=("python", "mine.py", "--fast"), folder=tmp_path)
    assert study_from_definition(definition(study)) == study, "resume needs no file"


def test_a_folder_of_its_own_starts_there_too(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "mine.py").write_text("", encoding="utf-8")
    study = load_study(write_study(tmp_path, with_trainer("{command: [python, mine.py], folder: scripts}")))
    assert study.trainer == CommandTrainer(command=("python", "mine.py"), folder=tmp_path / "scripts")


def test_a_study_file_may_move_with_its_script() -> None:
    before, after = (
        study_from_text(study_text()).model_copy(update={"trainer": CommandTrainer(command=("a",), folder=folder)})
        for folder in (Path("/old"), Path("/new"))
    )
    changes = definition_changes(before, after)
    assert changes.differences == ("trainer.folder: /old -> /new",)
    assert changes.only_raises_budget
    other = before.model_copy(update={"trainer": CommandTrainer(command=("b",), folder=Path("/old"))})
    assert not definition_changes(before, other).only_raises_budget


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ("skrll", ("x.yaml:4: trainer: 'skrll' is not installed here.", "Did you mean 'skrl'?", "builtin, skrl")),
        ("{command: [python, mine.py]}", ("x.yaml:4: trainer.command[1]: no such script", "mine.py")),
        ("{command: [python]}", ("needs a script: [python, my_trainer.py]",)),
        ("{command: [no-such-program]}", ("no program 'no-such-program' on the PATH",)),
        ("{command: [./no-such-program]}", ("not executable", "study file's folder")),
        ("{command: [python, -m, mine], folder: /no/such/folder}", ("trainer.folder: no folder /no/such/folder",)),
        ("{command: python mine.py}", ("trainer.command", "a list with at least 1 entry, each a text")),
    ],
)
def test_what_cannot_be_started_is_refused(trainer: str, words: tuple[str, ...]) -> None:
    message = refusal(with_trainer(trainer))
    assert all(word in message for word in words), message


def test_a_missing_extra_has_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skrl", None)
    assert "pip install 'vbot-campaign[skrl]'" in refusal(with_trainer("skrl"))
    with pytest.raises(SpecError, match="skrl is not installed"):
        build_training("vbot_navigation_section001", 100_000, num_envs=16, trainer="skrl")
    training = TrainingSpec(trainer="skrl", env_steps=100_000)
    assert training_problems(training) == [], "its policies can be evaluated all the same"


def test_a_program_may_be_named_by_its_path() -> None:
    assert trainer_problems(CommandTrainer(command=(sys.executable, "-c", "pass"))) == []
    folder, program = Path(sys.executable).parent, f"./{Path(sys.executable).name}"
    assert trainer_problems(CommandTrainer(command=(program,), folder=folder)) == []


def test_settings_that_skrl_cannot_honour_are_refused() -> None:
    rate = "    rollouts:"
    precision = "    mixed_precision: {type: choice, values: [true, false]}\n"
    assert "search_space.ppo.mixed_precision: has no effect under trainer 'skrl'" in refusal(
        with_trainer("skrl"), (rate, precision + rate)
    )
    assert "ppo.mixed_precision: has no effect under trainer 'skrl'" in refusal(
        with_trainer("skrl"), ("discount_factor: 0.99", "mixed_precision: true")
    )
    study_from_text(study_text(with_trainer("skrl"), ("discount_factor: 0.99", "mixed_precision: false")))
    study_from_text(study_text(("discount_factor: 0.99", "mixed_precision: true")))


def test_ours_are_always_there() -> None:
    assert trainer_names()[:2] == ["builtin", "skrl"]
