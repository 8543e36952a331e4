"""What must hold of a study after all faults. Each check returns its violations in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from vbot_campaign import fs
from vbot_campaign.chaos import toy_study
from vbot_campaign.chaos.campaign import ToyCampaign
from vbot_campaign.chaos.progress import Repeat
from vbot_campaign.events import stable
from vbot_campaign.exporters.verify import verify
from vbot_campaign.paths import TrialPaths
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView

_ENDINGS = ("completed", "pruned", "failed")
_TEMPORARY = (".part", ".tmp")
MAX_DIFFERENCES = 3
"""Differing lines or values named for one trial; the first is the one that matters."""


@dataclass(frozen=True)
class Evidence:
    """All that is known of a study that has ended."""

    campaign: ToyCampaign
    found: StudySnapshot
    undisturbed: ToyCampaign
    wanted: StudySnapshot
    repeats: Sequence[Repeat] = ()
    """What was trained again, as seen from outside while it ran."""

    @classmethod
    def of(cls, campaign: ToyCampaign, undisturbed: ToyCampaign) -> Evidence:
        """Read what there is of a study and of the undisturbed one.

        Raises:
            StudyNotFoundError: One of the two was never stored.
            StorageError: A database cannot be read.
        """
        found, wanted = (load_snapshot(c.runs, toy_study.NAME) for c in (campaign, undisturbed))
        return cls(campaign, found, undisturbed, wanted, tuple(campaign.progress.repeats))

    def pairs(self) -> Iterator[tuple[TrialView, TrialView]]:
        """Yield each trial with its undisturbed twin."""
        return zip(self.found.trials, self.wanted.trials, strict=False)


def check_all(evidence: Evidence) -> dict[str, list[str]]:
    """Return the violations of every invariant by its name; none where it holds."""
    return {name: list(check(evidence)) for name, check in INVARIANTS.items()}


def trials_finished_once(evidence: Evidence) -> Iterator[str]:
    """Every trial is there once, has one folder and one end, and none failed."""
    found = evidence.found
    if found.state != "finished":
        yield f"the study is {found.state}: {found.reason}"
    if len(found.trials) != len(evidence.wanted.trials):
        yield f"there are {len(found.trials)} trials instead of {len(evidence.wanted.trials)}"
    for number, count in Counter(trial.number for trial in found.trials).items():
        if count > 1:
            yield f"trial {number} is there {count} times"
    yield from (f"trial {t.number} is {t.state}: {t.reason}" for t in found.trials if t.state not in _ENDED_WELL)
    folders = Counter(path.name.split("_")[0] for path in evidence.campaign.paths.trials.glob("*_PPO"))
    yield from (f"trial {int(number)} has {count} folders" for number, count in folders.items() if count > 1)
    decisions = fs.read_lines(evidence.campaign.paths.decisions)
    told = Counter(line.get("trial") for line in decisions if "trial" in line and line.get("action") in _ENDINGS)
    yield from (f"trial {number} was told {count} times" for number, count in told.items() if count > 1)


_ENDED_WELL = (TrialState.COMPLETE, TrialState.PRUNED)


def env_steps_grow(evidence: Evidence) -> Iterator[str]:
    """Each trial's lines count up without a gap or a double, and no more than allowed was trained again."""
    for trial in evidence.found.trials:
        lines = _lines(evidence.campaign, trial, ("progress",))
        for earlier, later in pairwise([{"iteration": 0, "env_steps": 0, "attempt": 0}, *lines]):
            if later["iteration"] != earlier["iteration"] + 1 or later["env_steps"] <= earlier["env_steps"]:
                yield f"trial {trial.number}: iteration {later['iteration']} follows {earlier['iteration']}"
            elif later["attempt"] < earlier["attempt"]:
                yield f"trial {trial.number}: attempt {later['attempt']} wrote after attempt {earlier['attempt']}"
    for repeat in evidence.repeats:
        allowed = (2 if repeat.newest_destroyed else 1) * toy_study.INTERVAL
        if repeat.env_steps > allowed:
            text = f"trial {repeat.trial}, attempt {repeat.attempt}: went on at {repeat.resumed:,} after "
            yield f"{text}{repeat.reached:,}; at most {allowed:,} env steps may be trained again"


def metrics_equal(evidence: Evidence) -> Iterator[str]:
    """Every line of metrics.jsonl is the undisturbed one, without times and attempts.

    A pruned trial goes on until the stop has reached it, so of the two the shorter one counts. Alerts tell of faults.
    """
    for found, wanted in evidence.pairs():
        left = _lines(evidence.campaign, found, ("progress", "evaluation"))
        right = _lines(evidence.undisturbed, wanted, ("progress", "evaluation"))
        if wanted.state is TrialState.PRUNED:
            left, right = _shortened(left, right)
        yield from (f"trial {found.number}: {text}" for text in _line_differences(left, right))


def _line_differences(left: Sequence[dict[str, Any]], right: Sequence[dict[str, Any]]) -> list[str]:
    texts = [] if len(left) == len(right) else [f"{len(left)} lines instead of {len(right)}"]
    for number, (one, other) in enumerate(zip(left, right, strict=False), start=1):
        one, other = stable(one), stable(other)
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        if keys:
            values = f"{one.get(keys[0])!r} instead of {other.get(keys[0])!r}"
            texts.append(f"line {number} (iteration {other.get('iteration')}): {keys[0]} is {values}")
    return texts[:MAX_DIFFERENCES]


def _shortened(left: list[Any], right: list[Any]) -> tuple[list[Any], list[Any]]:
    length = min(len(left), len(right))
    return left[:length], right[:length]


def scores_equal(evidence: Evidence) -> Iterator[str]:
    """Scores, their parts and all reports are the undisturbed ones; of a pruned trial, the reports of both."""
    for found, wanted in evidence.pairs():
        left, right = dict(found.reports), dict(wanted.reports)
        if wanted.state is TrialState.PRUNED:
            left, right = ({step: side[step] for step in left.keys() & right.keys()} for side in (left, right))
        else:
            for name in ("score", "parts", "evaluation"):
                one, other = getattr(found, name), getattr(wanted, name)
                if one != other:
                    yield f"trial {found.number}: {name} is {one}, undisturbed {other}"
        if left != right:
            steps = sorted(step for step in left.keys() | right.keys() if left.get(step) != right.get(step))
            yield f"trial {found.number}: report at {steps[0]:,} is {left.get(steps[0])}, not {right.get(steps[0])}"


def nothing_runs(evidence: Evidence) -> Iterator[str]:
    """No trial is RUNNING in the database, no attempt is open, nobody holds the lease."""
    for trial in evidence.found.trials:
        if not trial.state.is_finished:
            yield f"trial {trial.number} is RUNNING in the database ({trial.state})"
        for attempt in trial.attempts:
            if attempt.ended is None:
                yield f"trial {trial.number}: attempt {attempt.number} is open"
    if evidence.found.supervisor is not None:
        yield f"the supervisor with pid {evidence.found.supervisor['pid']} holds the study"


def same_suggestions(evidence: Evidence) -> Iterator[str]:
    """The sampler drew the same points in the same order, and the pruner stopped the same trials."""
    for found, wanted in evidence.pairs():
        if found.parameters != wanted.parameters:
            yield f"trial {found.number}: was drawn as {found.parameters}, undisturbed {wanted.parameters}"
        if found.state is not wanted.state:
            yield f"trial {found.number}: is {found.state} ({found.reason}), undisturbed {wanted.state}"


def mirrors_equal(evidence: Evidence) -> Iterator[str]:
    """Database, mirrors and disk agree: what `vbot-campaign verify` says."""
    return (str(difference) for difference in verify(evidence.campaign.runs, toy_study.NAME))


def no_orphans(evidence: Evidence) -> Iterator[str]:
    """No process works in the folder any more."""
    for process in evidence.campaign.processes():
        yield f"process {process.pid} is still there: {' '.join(process.cmdline())[-60:]}"


def no_temporary_files(evidence: Evidence) -> Iterator[str]:
    """No half-written file is left."""
    for path in sorted(evidence.campaign.folder.rglob("*")):
        if path.suffix in _TEMPORARY:
            yield path.relative_to(evidence.campaign.folder).as_posix()


def _lines(campaign: ToyCampaign, trial: TrialView, kinds: Sequence[str]) -> list[dict[str, Any]]:
    if trial.folder is None:
        return []
    lines = fs.read_lines(TrialPaths(campaign.paths.root / trial.folder).metrics)
    return [line for line in lines if line.get("kind") in kinds]


INVARIANTS: dict[str, Callable[[Evidence], Iterator[str]]] = {
    "every trial finished exactly once": trials_finished_once,
    "env steps grow; at most one interval trained again": env_steps_grow,
    "metrics equal the undisturbed run line by line": metrics_equal,
    "scores, parts and reports equal the undisturbed run": scores_equal,
    "no RUNNING row, no open attempt": nothing_runs,
    "same suggestions, same trials pruned": same_suggestions,
    "mirrors, database and disk agree": mirrors_equal,
    "no orphan process": no_orphans,
    "no temporary file": no_temporary_files,
}
