"""Which parameters the score depends on."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Collection, Mapping, Sequence

import optuna
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from vbot_campaign.errors import SpecError, StudyError
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import space
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView

MIN_TRIALS = 4
"""Complete trials below which nothing can be said."""
MAX_FANOVA = 500
"""Complete trials above which fANOVA, whose forest grows with them, would take longer than the rest of a report."""


METHODS = {"pedanova": "PED-ANOVA", "fanova": "fANOVA"}
"""Names on the command line, and in full."""
FIXABLE_SHARE = 0.1
"""What all parameters together that may be fixed decide of the score, at most."""


def importances_by(snapshot: StudySnapshot, method: str) -> dict[str, float]:
    """Return each parameter's share by one method, the largest first.

    Args:
        snapshot: The study.
        method: One of `METHODS`.

    Raises:
        SpecError: No such method, or the package that it needs is not installed.
        StudyError: The study's trials say nothing, or are too many for fANOVA.
    """
    if method not in METHODS:
        raise SpecError(f"--method {method}: no such method. Valid: {', '.join(METHODS)}.")
    if method == "fanova" and importlib.util.find_spec("sklearn") is None:
        raise SpecError(
            "--method fanova: needs scikit-learn, which is not installed. Run: pip install 'vbot-campaign[fanova]', or "
            "use pedanova."
        )
    found = parameter_importances(snapshot, [METHODS[method]]).get(METHODS[method])
    if found is not None:
        return found
    complete = sum(t.state is TrialState.COMPLETE and t.score is not None for t in snapshot.trials)
    name = snapshot.spec.study
    if method == "fanova" and complete > MAX_FANOVA:
        raise StudyError(f"study '{name}': fANOVA takes {MAX_FANOVA} complete trials at most, it has {complete}.")
    raise StudyError(
        f"study '{name}': {complete} complete trials say nothing about its parameters; {MIN_TRIALS} or more with "
        "different scores are needed."
    )


def fixable(shares: Mapping[str, float]) -> list[str]:
    """Return the parameters that matter so little that they may be fixed, the least first.

    Each has less than half of an equal share, and all of them together at most `FIXABLE_SHARE`.

    Args:
        shares: From `importances_by`.
    """
    total, found = 0.0, []
    for name, share in sorted(shares.items(), key=lambda item: item[1]):
        total += share
        if share >= 0.5 / len(shares) or total > FIXABLE_SHARE:
            break
        found.append(name)
    return found


def parameter_importances(
    snapshot: StudySnapshot, methods: Collection[str] = tuple(METHODS.values())
) -> dict[str, dict[str, float]]:
    """Return each parameter's share of what decides the score, by method.

    PED-ANOVA (Watanabe et al., IJCAI 2023, https://arxiv.org/abs/2304.10255) says what tells the best tenth of the
    trials from the rest. fANOVA (Hutter et al., ICML 2014) says what explains the score's variance over the whole
    space; it needs scikit-learn and is there only where that is installed.

    Args:
        snapshot: The study. Only complete trials count: scores of pruned ones are of other env steps.
        methods: Which of them, in full.

    Returns:
        Shares by real parameter name, the largest first, that add up to 1; by ``PED-ANOVA`` and ``fANOVA``. Empty with
        fewer than `MIN_TRIALS` complete trials, or where all scores are the same.
    """
    complete = [t for t in snapshot.trials if t.state is TrialState.COMPLETE and t.score is not None]
    if len(complete) < MIN_TRIALS or len({trial.score for trial in complete}) < 2:
        return {}
    study = _study(snapshot.spec, complete)
    evaluators: dict[str, BaseImportanceEvaluator] = {"PED-ANOVA": PedAnovaImportanceEvaluator()}
    if importlib.util.find_spec("sklearn") is not None and len(complete) <= MAX_FANOVA:
        evaluators["fANOVA"] = FanovaImportanceEvaluator(seed=0)
    found = {name: _shares(snapshot.spec, study, one) for name, one in evaluators.items() if name in methods}
    return {name: shares for name, shares in found.items() if shares}


def _study(spec: StudySpec, trials: Sequence[TrialView]) -> optuna.Study:
    # In memory and from the pictures that a reader has anyway: no second reading of the database.
    study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    study.add_trials([_frozen(spec, trial) for trial in trials])
    return study


def _frozen(spec: StudySpec, trial: TrialView) -> FrozenTrial:
    distributions = {
        space.stored_name(name, spec.parameters[name]): space.distribution(spec.parameters[name])
        for name in trial.parameters
    }
    return optuna.trial.create_trial(
        state=OptunaState.COMPLETE,
        value=trial.score,
        params=space.encode(spec, trial.parameters),
        distributions=distributions,
    )


def _shares(spec: StudySpec, study: optuna.Study, method: BaseImportanceEvaluator) -> dict[str, float]:
    names = {space.stored_name(name, parameter): name for name, parameter in spec.parameters.items()}
    found = optuna.importance.get_param_importances(study, evaluator=method)
    shares = {names[stored]: float(share) for stored, share in found.items() if math.isfinite(share)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
