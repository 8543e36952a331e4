"""Points of a search space in files: those that the field's scripts write, and the summaries and mirrors of ours.

A point is any of these, and a file holds one or a list of them, as JSON or YAML:

* ``hp_config``, ``reward_config`` and ``env_config`` (also ``rl_overrides``, ``reward_scales``, ``env_overrides``);
* a summary (``experiments/trial_0007.yaml``, ``summary.yaml``) or a configuration (``configs/trial_0007.yaml``);
* ``hp_search_history``, the list of an ``automl_state.yaml``;
* names and values without groups, ``learning_rate`` or ``ppo.learning_rate``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.spec import groups
from vbot_campaign.spec.document import parse_value
from vbot_campaign.spec.environments import get_environment

ALIASES: Mapping[groups.Group, Mapping[str, str]] = {
    "ppo": {
        "lr": "learning_rate",
        "entropy_coef": "entropy_loss_scale",
        "ent_coef": "entropy_loss_scale",
        "gamma": "discount_factor",
        "lam": "lambda_param",
        "lambda": "lambda_param",
        "gae_lambda": "lambda_param",
        "clip_param": "ratio_clip",
        "clip_range": "ratio_clip",
        "value_loss_coef": "value_loss_scale",
        "vf_coef": "value_loss_scale",
        "max_grad_norm": "grad_norm_clip",
        "desired_kl": "learning_rate_scheduler_kl_threshold",
        "num_learning_epochs": "learning_epochs",
        "n_epochs": "learning_epochs",
        "num_mini_batches": "mini_batches",
        "num_steps_per_env": "rollouts",
        "n_steps": "rollouts",
        "actor_hidden_dims": "policy_hidden_layer_sizes",
        "critic_hidden_dims": "value_hidden_layer_sizes",
        "freeze_preprocessor": "freeze_normalizers",
    },
    "reward": {
        "termination_penalty": "termination",
        "orientation_penalty": "orientation",
        "lin_vel_z_penalty": "lin_vel_z",
        "ang_vel_xy_penalty": "ang_vel_xy",
        "torque_penalty": "torques",
        "action_rate_penalty": "action_rate",
    },
    "env": {},
}
"""What others call our parameters (the field's scripts, skrl, rsl_rl, Stable-Baselines), by group."""

_GROUP_KEYS: Mapping[groups.Group, tuple[str, ...]] = {
    "ppo": ("ppo", "hp_config", "rl_overrides", "rl_config", "hyperparameters"),
    "reward": ("reward", "reward_config", "reward_scales"),
    "env": ("env", "env_config", "env_overrides", "env_settings"),
}
_FLAT_KEYS = ("sampled", "parameters", "params")
_LIST_KEYS = ("hp_search_history", "points", "trials")

Renames = Mapping[str, str]
"""Names that a user gives: the file's to ours."""


@dataclass(frozen=True)
class Candidate:
    """A point that came from elsewhere; nothing of it is checked."""

    origin: str
    """Where it came from, in words."""
    values: Mapping[str, Any]
    """By dotted name where that is known (``ppo.learning_rate``), else by the name it had."""
    score: float | None = None


def read_points(file: Path, environment: str, renames: Renames | None = None) -> list[Candidate]:
    """Return the points of a file, in its order.

    Args:
        file: JSON where its name ends so, else YAML.
        environment: Whose names ours are.
        renames: A user's names, from `read_renames`.

    Raises:
        SpecError: It cannot be read, or holds no point.
    """
    content = _content(file)
    items = list(_items(content))
    if not items:
        raise SpecError(
            f"{file}: holds no point. Expected hp_config, reward_config and env_config, a list of those, a trial's "
            "summary, or names with values such as ppo.learning_rate."
        )
    several = len(items) > 1
    return [
        Candidate(f"{file.name}[{index}]" if several else file.name, _named(item, environment, renames or {}), score)
        for index, (item, score) in enumerate(items)
    ]


def read_renames(assignments: Sequence[str], environment: str) -> dict[str, str]:
    """Return the renames of options such as ``lr_scale=ppo.learning_rate``.

    Raises:
        SpecError: One has no ``=``, or leads to a name that does not exist.
    """
    known = groups.defaults(get_environment(environment))
    renames = {}
    for text in assignments:
        old, equals, new = (part.strip() for part in text.partition("="))
        if not equals or not old or not new:
            raise SpecError(f"--map {text}: expected OLD=NEW, such as lr_scale=ppo.learning_rate.")
        if new not in known:
            raise SpecError(
                f"--map {text}: '{new}' does not exist.{did_you_mean(new, known)} "
                "Valid are names such as ppo.learning_rate (ppo, reward, env)."
            )
        renames[old] = new
    return renames


def canonical_name(name: str, group: groups.Group | None, environment: str, renames: Renames | None = None) -> str:
    """Return our dotted name of what someone else calls a parameter; the name itself where we do not know it.

    Args:
        name: With or without its group.
        group: The group it stood in; None where it stood in none.
        environment: Whose names ours are.
        renames: A user's names, which go first.
    """
    renames = renames or {}
    if name in renames or f"{group}.{name}" in renames:
        return renames.get(name) or renames[f"{group}.{name}"]
    first, rest = groups.split_name(name)
    if group is None and rest and first in groups.GROUPS:
        group, name = first, rest
    if group is not None:
        return f"{group}.{ALIASES[group].get(name, name)}"
    known = groups.defaults(get_environment(environment))
    found = (f"{group}.{ALIASES[group].get(name, name)}" for group in groups.GROUPS)
    return next((dotted for dotted in found if dotted in known), name)


def _content(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8-sig")
        return json.loads(text) if file.suffix == ".json" else parse_value(text)
    except FileNotFoundError:
        raise SpecError(f"{file}: no such file.") from None
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror}.") from None
    except json.JSONDecodeError as error:
        raise SpecError(f"{file}:{error.lineno}: not valid JSON: {error.msg}.") from None
    except (UnicodeDecodeError, RecursionError):
        raise SpecError(f"{file}: no text in UTF-8, or nested too deep.") from None
    except SpecError as error:
        raise SpecError(f"{file}: {error}") from None


def _items(content: Any) -> Iterator[tuple[list[tuple[groups.Group | None, str, Any]], float | None]]:
    """Yield the entries of each point (group, name, value), and its score."""
    if isinstance(content, list):
        for item in content:
            yield from _items(item)
    elif isinstance(content, dict):
        inner = next((content[key] for key in _LIST_KEYS if isinstance(content.get(key), list)), None)
        if inner is not None:
            yield from _items(inner)
        elif entries := list(_entries(content)):
            score = content.get("score")
            yield entries, float(score) if isinstance(score, int | float) else None


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[groups.Group | None, str, Any]]:
    # A summary keeps its hyperparameters under `config` and its weights under `results`.
    whole = {**_mapping(content, "results"), **_mapping(content, "config"), **content}
    grouped = [(group, _mapping(whole, key)) for group, keys in _GROUP_KEYS.items() for key in keys if key in whole]
    if any(values for _, values in grouped):
        for group, values in grouped:
            yield from ((group, name, value) for name, value in _flattened(values))
        return
    flat = next((_mapping(whole, key) for key in _FLAT_KEYS if _mapping(whole, key)), whole)
    for name, value in flat.items():
        if not name.startswith("_") and name != "score" and not isinstance(value, dict):
            yield None, name, value


def _flattened(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and values; a reward file has its weights by category."""
    for name, value in values.items():
        yield from value.items() if isinstance(value, dict) else [(name, value)]


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = content.get(key)
    return found if isinstance(found, dict) else {}


def _named(
    entries: Sequence[tuple[groups.Group | None, str, Any]], environment: str, renames: Renames
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for group, name, value in entries:
        values.setdefault(canonical_name(name, group, environment, renames), value)
    return values
