"""The reward library: reward weights that were kept, each in a reward file with what a trial achieved with it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from vbot_campaign import fs
from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.exporters import plain_yaml, trial_config
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.document import Document, read_document
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.reward_file import RewardFile, RewardRecord, Status, by_category, read_rewards
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView

STATUSES: tuple[Status, ...] = get_args(Status)


def entry_names(paths: CampaignPaths) -> list[str]:
    """Return the names of all entries, sorted."""
    return sorted(file.stem for file in paths.reward_library.glob("*.yaml"))


def read_entry(paths: CampaignPaths, name: str) -> RewardFile:
    """Return an entry.

    Raises:
        SpecError: There is none of that name, or its file is not a valid reward file.
    """
    return read_rewards(_document(paths, name))


def save_entry(
    paths: CampaignPaths,
    name: str,
    source: str,
    *,
    status: str | None = None,
    notes: str = "",
    now: datetime | None = None,
) -> Path:
    """Keep the weights of a trial, with what it achieved.

    Args:
        paths: The runs folder.
        name: Name of the entry.
        source: ``STUDY:TRIAL``.
        status: One of `STATUSES`; by default tested for a complete trial, else untested.
        notes: Anything a person wants to say.
        now: Time of saving.

    Returns:
        The entry's file.

    Raises:
        SpecError: The name is taken or cannot be one, the source is not ``STUDY:TRIAL``, or the trial has no score.
        StudyNotFoundError: No such study.
    """
    file = paths.reward(name)
    if file.exists():
        raise SpecError(
            f"reward library: '{name}' is there already; pick another name. Its status and notes are changed with: "
            f"vbot-campaign rewards set {name} --status STATUS --notes TEXT."
        )
    snapshot, trial = _trial(paths, source)
    chosen = _status(status) or ("tested" if trial.state is TrialState.COMPLETE else "untested")
    _write(file, name, _entry(paths, snapshot, trial, chosen, notes, now or datetime.now(UTC)))
    return file


def change_entry(paths: CampaignPaths, name: str, *, status: str | None = None, notes: str | None = None) -> RewardFile:
    """Change the status or the notes of an entry and return it.

    Raises:
        SpecError: There is no such entry, no such status, or nothing to change.
    """
    if status is None and notes is None:
        raise SpecError("rewards set: nothing to change; give --status, --notes, or both.")
    entry = read_entry(paths, name)
    record = entry.record or RewardRecord(saved=plain_yaml.utc(datetime.now(UTC)))
    update: dict[str, Any] = {"status": _status(status), "notes": notes}
    record = record.model_copy(update={key: value for key, value in update.items() if value is not None})
    changed = entry.model_copy(update={"record": record})
    _write(paths.reward(name), name, changed)
    return changed


def copy_entry(paths: CampaignPaths, name: str, target: Path) -> None:
    """Write an entry to a file of its own, to be edited and referred to.

    Raises:
        SpecError: There is no such entry, or the file is there already.
    """
    text = entry_text(paths, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise SpecError(f"{target}: is there already, and stays as it is; name another file.") from None


def entry_text(paths: CampaignPaths, name: str) -> str:
    """Return an entry's weights as the text of a reward file, without its record.

    Raises:
        SpecError: There is no such entry.
    """
    entry = read_entry(paths, name)
    origin = ""
    if entry.record is not None and entry.record.study is not None:
        origin = f", from trial {entry.record.trial} of study {entry.record.study}"
    comment = f"# Reward weights '{name}' of the reward library{origin}.\n"
    return comment + plain_yaml.dump(_content(entry.model_copy(update={"record": None})))


def _document(paths: CampaignPaths, name: str) -> Document:
    file = paths.reward(name)
    if not file.is_file():
        names = entry_names(paths)
        there = f"It has: {', '.join(names)}." if names else "It is empty; see: vbot-campaign rewards save --help."
        raise SpecError(
            f"reward library {paths.reward_library.as_posix()}: no entry '{name}'.{did_you_mean(name, names)} {there}"
        )
    return read_document(file)


def _trial(paths: CampaignPaths, source: str) -> tuple[StudySnapshot, TrialView]:
    study, colon, number = source.rpartition(":")
    if not colon or not study or not number.isdecimal():
        raise SpecError(f"--from {source}: expected STUDY:TRIAL, such as section001:7.")
    snapshot = load_snapshot(paths, study)
    trial = next((trial for trial in snapshot.trials if trial.number == int(number)), None)
    if trial is None:
        raise SpecError(f"--from {source}: study '{study}' has {len(snapshot.trials)} trials, counted from 0.")
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        raise SpecError(
            f"--from {source}: trial {number} is {trial.state.value}; only a trial with a score can be kept."
        )
    return snapshot, trial


def _entry(
    paths: CampaignPaths, snapshot: StudySnapshot, trial: TrialView, status: Status, notes: str, now: datetime
) -> RewardFile:
    spec = snapshot.spec
    config = trial_config.resolve(paths.study(spec.study), spec, trial)
    settings = get_environment(spec.environment).settings
    record = RewardRecord(
        status=status,
        notes=notes,
        saved=plain_yaml.utc(now),
        study=spec.study,
        trial=trial.number,
        score=trial.score,
        env_steps=trial.env_steps,
        metrics=trial.parts or {},
        physics=spec.physics,
        env={name: value for name, value in config.env.items() if value != settings[name].default},
    )
    return RewardFile(environment=spec.environment, record=record, reward=by_category(spec.environment, config.reward))


def _status(text: str | None) -> Status | None:
    if text is not None and text not in STATUSES:
        raise SpecError(f"--status {text}: no such status.{did_you_mean(text, STATUSES)} Valid: {', '.join(STATUSES)}.")
    return text


def _write(file: Path, name: str, entry: RewardFile) -> None:
    comment = (
        f"# An entry of the reward library. Use it in a study, a training or a plan: reward: {{library: {name}}}\n"
    )
    fs.write_text(file, comment + plain_yaml.dump(_content(entry)))


def _content(entry: RewardFile) -> dict[str, Any]:
    values = entry.model_dump(mode="json", exclude_none=True)
    return {key: value for key, value in values.items() if value not in ("", {})}
