"""Who trains a trial: the built-in PPO, a trainer of an installed package, or a command; asked without loading it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from vbot_campaign.errors import did_you_mean
from vbot_campaign.spec.physics import is_installed
from vbot_campaign.spec.problems import Problem, show
from vbot_campaign.spec.training import CommandTrainer, PpoSettings, TrainingSpec

ENTRY_POINT_GROUP = "vbot_campaign.trainers"
"""Other packages register their trainers in this group of entry points."""

PYTHON = ("python", "python3")
"""Programs that stand for the interpreter this program runs in."""

_SHIPPED: Mapping[str, str | None] = {"builtin": None, "skrl": "skrl"}
"""Our own trainers, and the package that each needs; it is an extra of this program with the same name."""

_HONOURED: Mapping[str, frozenset[str]] = {
    "skrl": frozenset(
        (
            "learning_rate",
            "lr_scheduler_type",
            "learning_rate_scheduler_kl_threshold",
            "rollouts",
            "learning_epochs",
            "mini_batches",
            "discount_factor",
            "lambda_param",
            "ratio_clip",
            "value_clip",
            "clip_predicted_values",
            "entropy_loss_scale",
            "value_loss_scale",
            "grad_norm_clip",
            "kl_threshold",
            "rewards_shaper_scale",
            "time_limit_bootstrap",
            "initial_log_std",
            "freeze_normalizers",
            "policy_hidden_layer_sizes",
            "value_hidden_layer_sizes",
        )
    )
}
"""PPO settings that a trainer does what they say; one that is not here takes them all, or none that we know of."""


def trainer_names() -> list[str]:
    """Return the names that ``trainer:`` may have on this machine, ours first."""
    return [*_SHIPPED, *sorted(set(_entry_points()) - set(_SHIPPED))]


def trainer_entry_point(name: str) -> metadata.EntryPoint | None:
    """Return where another package registered a trainer, or None."""
    return None if name in _SHIPPED else _entry_points().get(name)


def trainer_words(trainer: str | CommandTrainer) -> str:
    """Return a trainer as people name it: its name, or its command line."""
    return trainer if isinstance(trainer, str) else " ".join(trainer.command)


def placed_in(trainer: str | CommandTrainer, folder: Path) -> str | CommandTrainer:
    """Return a trainer whose command runs in its own folder, or else in ``folder``, wherever it is started from."""
    if isinstance(trainer, str):
        return trainer
    own = (folder / (trainer.folder or ".")).resolve()
    return trainer.model_copy(update={"folder": own})


def trainer_problems(trainer: str | CommandTrainer) -> list[Problem]:
    """Return what keeps a trainer from being started on this machine: unknown, or something of it is missing."""
    return _name_problems(trainer) if isinstance(trainer, str) else _command_problems(trainer)


def settings_problems(training: TrainingSpec) -> list[Problem]:
    """Return PPO settings that the training's trainer cannot honour and that differ from their default."""
    values = training.ppo.model_dump()
    changed = [name for name, value in values.items() if value != PpoSettings.model_fields[name].default]
    return [
        Problem(("ppo", name), message)
        for name in changed
        if (message := setting_problem(training.trainer, name)) is not None
    ]


def setting_problem(trainer: str | CommandTrainer, name: str) -> str | None:
    """Say that a trainer cannot do what a PPO setting says, or return None."""
    honoured = _HONOURED.get(trainer) if isinstance(trainer, str) else None
    if honoured is None or name in honoured:
        return None
    return f"has no effect under trainer '{trainer}'; remove it or use trainer: builtin."


def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}


def _name_problems(name: str) -> list[Problem]:
    if name not in _SHIPPED and trainer_entry_point(name) is None:
        valid = trainer_names()
        text = (
            f"'{name}' is not installed here.{did_you_mean(name, valid)} Valid: {', '.join(valid)}, "
            "or {command: [python, my_trainer.py]}."
        )
        return [Problem(("trainer",), text)]
    package = _SHIPPED.get(name)
    if package is None or is_installed(package):
        return []
    text = f"{name} is not installed. Install it with: pip install 'vbot-campaign[{name}]'"
    return [Problem(("trainer",), text)]


def _command_problems(trainer: CommandTrainer) -> list[Problem]:
    folder = trainer.folder or Path.cwd()
    if not folder.is_dir():
        text = f"no folder {folder}. The command runs there; put it back, or run the study file from where it is now."
        return [Problem(("trainer", "folder"), text)]
    program, *arguments = trainer.command
    if program not in PYTHON:
        return _program_problems(program, folder)
    script = next(iter(arguments), None)
    if script is None:
        return [Problem(("trainer", "command"), f"{show(program)} needs a script: [python, my_trainer.py].")]
    if script.startswith("-") or (folder / script).is_file():
        return []
    near = did_you_mean(script, [path.name for path in folder.glob("*.py")])
    text = f"no such script {folder / script}.{near} A relative path starts at the study file's folder."
    return [Problem(("trainer", "command", 1), text)]


def _program_problems(program: str, folder: Path) -> list[Problem]:
    if Path(program).name == program:
        found = shutil.which(program)
        where = "on the PATH. Install it, or give its path"
    else:
        found = shutil.which(str(folder / program))
        where = f"in {folder}, or it is not executable. A relative path starts at the study file's folder"
    return [] if found else [Problem(("trainer", "command", 0), f"no program {show(program)} {where}.")]
