"""What the pruner sees of a running trial, with worked numbers and beside Optuna's own pruners."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from tests.support.snapshots import STEPS, make_pruned, make_running, make_snapshot, make_spec, make_trial
from vbot_campaign.study.pruners import build_pruner
from vbot_campaign.study.snapshot import StudySnapshot
from vbot_campaign.watch.standing import percentile, standing

POINT = STEPS // 2
CURVES = (0.1, 0.2, 0.3, 0.4, 0.9)


def study(pruner: dict, *curve: float) -> StudySnapshot:
    """Return five complete trials, a pruned one, and a running one with the given scores up to the common point."""
    reports = {POINT - len(curve) + 1 + n: score for n, score in enumerate(curve)}
    done = [make_trial(n, reports={POINT: score}) for n, score in enumerate(CURVES)]
    pruned = make_pruned(5, reports={POINT: 0.05})
    return make_snapshot(spec=make_spec(pruner=pruner), trials=(*done, pruned, make_running(6, reports=reports)))


def test_the_rank_counts_all_trials_that_came_as_far() -> None:
    snapshot = study({"name": "hyperband"}, 0.25)
    place = standing(snapshot, snapshot.trials[-1])
    assert place is not None
    assert (place.rank, place.of, place.bar) == (4, 7, None)
    assert place.words() == "rank 4 of 7"


@pytest.mark.parametrize(
    ("pruner", "curve", "words"),
    [
        # The median of 0.1, 0.2, 0.3, 0.4 and 0.9.
        ({"name": "median"}, (0.35,), "rank 3 of 7, peak 0.050 above the median (0.300)"),
        ({"name": "median"}, (0.25,), "rank 4 of 7, peak 0.050 below the median (0.300)"),
        # It was at 0.45 once, and that is what counts for the pruner.
        ({"name": "median"}, (0.45, 0.25), "rank 4 of 7, peak 0.150 above the median (0.300)"),
        # The best quarter begins at 0.4: three quarters of the way from the first to the fifth.
        ({"name": "percentile", "percentile": 25.0}, (0.35,), "rank 3 of 7, peak 0.050 below the best 25 % (0.400)"),
        ({"name": "median", "warmup": 0.6}, (0.25,), "rank 4 of 7, not judged before 60%"),
        ({"name": "median", "startup_trials": 6}, (0.25,), "rank 4 of 7, not judged before 6 trials are complete"),
        ({"name": "none"}, (0.25,), "rank 4 of 7, nothing is pruned"),
    ],
)
def test_the_bar_is_the_one_that_the_pruner_asks_for(pruner: dict, curve: tuple, words: str) -> None:
    snapshot = study(pruner, *curve)
    place = standing(snapshot, snapshot.trials[-1])
    assert place is not None
    assert place.words() == words
    assert stops(snapshot) == (place.margin is not None and place.margin < 0)


def stops(snapshot: StudySnapshot) -> bool:
    """Ask Optuna's own pruner about the last trial."""
    asked = optuna.create_study(direction="maximize")
    states = {"complete": OptunaState.COMPLETE, "pruned": OptunaState.PRUNED, "running": OptunaState.RUNNING}
    for trial in snapshot.trials:
        state = states[trial.state.value]
        value = None if state is OptunaState.RUNNING else 0.5
        asked.add_trial(create_trial(state=state, value=value, intermediate_values=dict(trial.reports)))
    return build_pruner(snapshot.spec).prune(asked, asked.trials[-1])


def test_before_the_first_report_there_is_nothing_to_say() -> None:
    snapshot = make_snapshot(trials=(make_running(0, reports={}),))
    assert standing(snapshot, snapshot.trials[0]) is None


def test_percentiles_lie_between_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0, 4.0], 50) == 2.5
    assert percentile([5.0], 75) == 5.0
