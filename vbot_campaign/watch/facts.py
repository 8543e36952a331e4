"""A study in a few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from vbot_campaign.exporters import rows
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView


def by_state(trials: Iterable[TrialView]) -> str:
    """Return ``3 complete, 1 pruned, 2 running``; of those that wait, how many are paused at a rung."""
    known = list(trials)
    counts = Counter(trial.state for trial in known)
    order = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.RUNNING, TrialState.WAITING)
    paused = sum(trial.is_paused for trial in known)
    told = ", ".join(f"{counts[state]} {state.value}" for state in order if counts[state]) or "none yet"
    return f"{told} ({paused} of them paused)" if paused else told


def best_policy(paths: CampaignPaths, snapshot: StudySnapshot) -> str | None:
    """Return the path of the best trial's policy, as it can be handed to ``evaluate``."""
    checkpoint = rows.best_checkpoint(snapshot.best) if snapshot.best else None
    return (paths.study(snapshot.spec.study).root / checkpoint.path).as_posix() if checkpoint else None
