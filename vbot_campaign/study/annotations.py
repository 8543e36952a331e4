"""What people write about trials: notes and tags.

A trial's note is the one of optuna-dashboard, so what is written in the browser is read in the terminal, and the other
way round. Tags are kept together in the study's user attribute ``tags``, by trial number: ``{"7": ["good gait"]}``.
Both may be written at any time, while a supervisor is at work and after the trial has ended.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import optuna

from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.storage import open_storage, storage_errors
from vbot_campaign.study.study import load_snapshot

TAGS = "tags"
MAX_TAG = 40
_NOTE_KEY = re.compile(r"dashboard:(\d+):note_ver")


@dataclass(frozen=True)
class Annotations:
    """Notes and tags of a study's trials, by trial number; a trial without any is absent."""

    notes: Mapping[int, str] = field(default_factory=dict)
    """In Markdown, as the dashboard shows them."""
    tags: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def read_annotations(paths: CampaignPaths, name: str) -> Annotations:
    """Return what people wrote about the trials of a study.

    Raises:
        StudyNotFoundError: No study has that name.
        StorageError: The database cannot be read.
    """
    load_snapshot(paths, name)  # says which studies there are, where this one is not
    with _opened(paths, name, read_only=True) as study:
        return Annotations(notes=dict(_notes(study)), tags=_tags(study))


def write_note(paths: CampaignPaths, name: str, trial: int, text: str, *, append: bool = False) -> str:
    """Replace a trial's note, or add a paragraph to it.

    Args:
        paths: The runs folder.
        name: Name of the study.
        trial: Number of the trial.
        text: The note, in Markdown; an empty one removes it.
        append: Keep what is there.

    Returns:
        The whole note.

    Raises:
        StudyNotFoundError: No study has that name.
        StudyError: The study has no such trial.
        StorageError: The database cannot be written.
    """
    from optuna_dashboard import get_note, save_note

    load_snapshot(paths, name).trial(trial)
    with _opened(paths, name) as study:
        noted = _trial(study, trial)
        before = get_note(noted).strip() if append else ""
        note = "\n\n".join(part for part in (before, text.strip()) if part)
        save_note(noted, note)
    return note


def change_tags(
    paths: CampaignPaths, name: str, trial: int, *, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> tuple[str, ...]:
    """Add tags to a trial and take others away.

    Returns:
        All tags of the trial.

    Raises:
        StudyNotFoundError: No study has that name.
        StudyError: The study has no such trial.
        SpecError: A tag that cannot be one, or one to take away that the trial does not have.
        StorageError: The database cannot be written.
    """
    load_snapshot(paths, name).trial(trial)
    added = [_checked(tag) for tag in add]
    with _opened(paths, name) as study:
        tags = _tags(study)
        before = tags.get(trial, ())
        for tag in (tag for tag in remove if tag not in before):
            known = f"it has {', '.join(before)}" if before else "it has none"
            raise SpecError(f"tag '{tag}': trial {trial} does not have it; {known}.{did_you_mean(tag, before)}")
        after = tuple(tag for tag in dict.fromkeys([*before, *added]) if tag not in remove)
        kept = {str(number): list(some) for number, some in sorted({**tags, trial: after}.items()) if some}
        study.set_user_attr(TAGS, kept)
    return after


def _checked(tag: str) -> str:
    tag = " ".join(tag.split())
    if not tag or len(tag) > MAX_TAG or "," in tag or not tag.isprintable():
        raise SpecError(f"tag {tag[: MAX_TAG + 3]!a}: cannot be one; use one to {MAX_TAG} characters without commas.")
    return tag


@contextlib.contextmanager
def _opened(paths: CampaignPaths, name: str, *, read_only: bool = False) -> Iterator[optuna.Study]:
    storage = open_storage(paths, read_only=read_only)
    try:
        with storage_errors(storage.url):
            # The sampler and the pruner are never asked; those of the study would take longer to make.
            yield optuna.load_study(
                study_name=name,
                storage=storage.optuna,
                sampler=optuna.samplers.RandomSampler(),
                pruner=optuna.pruners.NopPruner(),
            )
    finally:
        storage.close()


def _trial(study: optuna.Study, number: int) -> optuna.Trial:
    return optuna.Trial(study, study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def _notes(study: optuna.Study) -> Iterator[tuple[int, str]]:
    from optuna_dashboard import get_note

    keys = study._storage.get_study_system_attrs(study._study_id)
    for trial_id in (int(found[1]) for key in keys if (found := _NOTE_KEY.fullmatch(key))):
        trial = optuna.Trial(study, trial_id)
        if note := get_note(trial).strip():
            yield trial.number, note


def _tags(study: optuna.Study) -> dict[int, tuple[str, ...]]:
    stored = study._storage.get_study_user_attrs(study._study_id).get(TAGS, {})
    return {int(number): tuple(tags) for number, tags in stored.items()}
