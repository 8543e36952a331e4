"""What a trial really ran with, from its ``experiment_meta.json``, and where that is not what it was given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from vbot_campaign import fs
from vbot_campaign.exporters import plain_yaml
from vbot_campaign.exporters.trial_config import TrialConfig
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.problems import show
from vbot_campaign.spec.trainer import trainer_words
from vbot_campaign.study.snapshot import TrialView

MAX_ALERTS = 20
"""Alerts of a worker in a summary; a worker that goes on complaining says nothing new."""

_GROUPS = {"ppo": "rl_overrides", "reward": "reward_scales", "env": "env_overrides"}
_RAN_ON = ("host", "platform", "device", "slot", "threads", "versions", "git", "earlier_attempts")


def read_meta(folder: TrialPaths) -> dict[str, Any] | None:
    """Return what the worker wrote about its training; None before that, and of trainers that write nothing."""
    try:
        meta = fs.read_json(folder.meta)
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) else None


def ran_with(config: TrialConfig, meta: Mapping[str, Any] | None) -> TrialConfig:
    """Return a configuration with the values that the worker says it ran with."""
    if meta is None:
        return config
    ppo, reward, env = ({**getattr(config, group), **_mapping(meta, key)} for group, key in _GROUPS.items())
    if "num_envs" in meta:
        ppo["num_envs"] = meta["num_envs"]
    return replace(config, ppo=ppo, reward=reward, env=env)


def ran_on(meta: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return machine, versions and commit of the last attempt and of those before it."""
    return None if meta is None else {name: meta.get(name) for name in _RAN_ON}


def warnings(trial: TrialView, config: TrialConfig, meta: Mapping[str, Any] | None, folder: TrialPaths) -> list[str]:
    """Return what a reader of a trial's results must know, in words."""
    found = [*([config.problem] if config.problem else [])]
    if meta is not None:
        found += [*_differences(trial, config, meta), *_provenance(meta)]
    if trial.num_envs is not None:
        found.append(f"memory ran out: it went on with {trial.num_envs} environments")
    return found + (_alerts(folder) if trial.state.is_finished else [])


def _differences(trial: TrialView, config: TrialConfig, meta: Mapping[str, Any]) -> Iterator[str]:
    given, ran = dict(_given(config)), dict(_ran(meta))
    if trial.attempts and trial.attempts[-1].number != meta.get("attempt"):
        ran.pop("num_envs", None)  # a later attempt, which has not written its own yet, may have fewer
    for name, value in ran.items():
        before, after = plain_yaml.plain(given.get(name, value)), plain_yaml.plain(value)
        if before != after:
            yield f"{name}: ran with {show(after)} (experiment_meta.json), was given {show(before)}"


def _given(config: TrialConfig) -> Iterator[tuple[str, Any]]:
    for group in _GROUPS:
        yield from ((f"{group}.{name}", value) for name, value in getattr(config, group).items() if name != "num_envs")
    if (training := config.training) is not None:
        yield "environment", training.environment
        yield "physics", training.physics
        yield "trainer", trainer_words(training.trainer)
        yield "seed", training.seed
        yield "evaluation.seed", training.evaluation.seed
        yield "num_envs", training.num_envs
        yield "env_steps", training.env_steps


def _ran(meta: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for group, key in _GROUPS.items():
        yield from ((f"{group}.{name}", value) for name, value in _mapping(meta, key).items())
    named = {"environment": "env_name", "evaluation.seed": "evaluation_seed"}
    for name in ("environment", "physics", "trainer", "seed", "evaluation.seed", "num_envs", "env_steps"):
        if (key := named.get(name, name)) in meta:
            yield name, meta[key]


def _provenance(meta: Mapping[str, Any]) -> Iterator[str]:
    git = _mapping(meta, "git")
    if git.get("dirty"):
        yield f"the program's files had changes that are not in commit {str(git.get('commit'))[:12]}"
    attempts = [entry for entry in [*(meta.get("earlier_attempts") or []), meta] if isinstance(entry, Mapping)]
    for before, after in pairwise(attempts):
        changes = [_change(name, old, new) for name, old, new in _changed(before, after)]
        if changes:
            yield f"attempt {after.get('attempt')} ran with another {', another '.join(changes)}"


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    old, new = _mapping(before, "versions"), _mapping(after, "versions")
    yield from ((name, old.get(name), new.get(name)) for name in new if old.get(name) != new.get(name))
    pairs = [("device", before.get("device"), after.get("device")), ("host", before.get("host"), after.get("host"))]
    pairs.append(("commit", _mapping(before, "git").get("commit"), _mapping(after, "git").get("commit")))
    yield from ((name, was, now) for name, was, now in pairs if was != now)


def _change(name: str, before: Any, after: Any) -> str:
    return f"{name} ({str(after)[:40]}, before {str(before)[:40]})"


def _alerts(folder: TrialPaths) -> list[str]:
    """Return what the workers of a trial complained about, each thing once."""
    texts = [f"{line.get('cause')}: {line.get('message')}" for line in _alert_lines(folder)]
    return list(dict.fromkeys(texts))[:MAX_ALERTS]


def _alert_lines(folder: TrialPaths) -> Iterator[dict[str, Any]]:
    # Only lines that may be one are parsed: the mirrors of hundreds of trials are made at once when a study is resumed.
    try:
        with folder.metrics.open("rb") as file:
            lines = [line for line in file if b'"alert"' in line]
    except FileNotFoundError:
        return
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # a torn last line
            continue
        if record.get("kind") == "alert" and record.get("level") != "info":
            yield record


def _mapping(meta: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = meta.get(name)
    return value if isinstance(value, Mapping) else {}
