"""The points of a table: drawn as a study with the random sampler draws them, but for its first trial."""

from __future__ import annotations

from typing import Any

import optuna

from vbot_campaign.spec.study import SamplerSettings, StudySpec
from vbot_campaign.study import samplers, space


def draw_points(spec: StudySpec, count: int) -> list[dict[str, Any]]:
    """Return random points of a search space.

    The first trial of a study is its prior and left out: it is no random draw, and a replay whose searches all begin
    with a good point by design has little to tell them apart by.

    Args:
        spec: The study; of its sampler only the seed counts.
        count: How many.
    """
    drawn = spec.model_copy(update={"sampler": SamplerSettings(name="random", seed=spec.sampler.seed)})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for _ in range(count + 1):
        found = samplers.draw(drawn, study.get_trials(deepcopy=False))
        assert found is not None
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.FAIL, params=found.params, distributions=found.distributions
            )
        )
    return [space.decode(spec, trial.params) for trial in study.get_trials(deepcopy=False)[1:]]
