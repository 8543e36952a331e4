"""A study of any size as its database would be, without training a second of it."""

from __future__ import annotations

import bisect
import json
import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from tests.support.snapshots import make_spec
from vbot_campaign.events import EVENT_SCHEMA
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import CampaignStudy, open_storage
from vbot_campaign.study.tables import AttemptRow, CheckpointRow, SessionRow, TrialRow

BUDGET = 15_000_000
EPISODES = 128
BEGUN = datetime(2026, 2, 1, 8, 0, tzinfo=UTC)
FAILURES = ("diverged in iteration {}: loss is not finite", "invalid: reward.arrival_bonus: 1e9 is too large")
LAYERS = ([128, 64], [256, 128, 64], [512, 256, 128])


@dataclass(frozen=True)
class _Planned:
    """One trial as it will be written."""

    number: int
    state: OptunaState
    parameters: dict[str, Any]
    score: float
    reports: dict[int, float]
    started: datetime
    ended: datetime
    reason: str

    @property
    def env_steps(self) -> int:
        return max(self.reports, default=BUDGET // 10)

    @property
    def folder(self) -> str:
        return f"trials/{self.number:04d}_{self.started:%Y%m%dT%H%M%SZ}_PPO"

    @property
    def totals(self) -> EpisodeTotals:
        success, fell = round(EPISODES * self.score**2), round(EPISODES * 0.4 * (1 - self.score))
        reached = min(round(1.1 * success), EPISODES - fell)
        return EpisodeTotals(
            finished=EPISODES,
            success=success,
            reached=reached,
            fell_before=fell - fell // 4,
            fell_after=fell // 4,
            timed_out=EPISODES - success - fell,
            goal_progress=EPISODES * min(self.score + 0.1, 1.0),
            time_to_goal=EPISODES * (10 - 6 * self.score),
            length=EPISODES * 700.0,
            reward=EPISODES * 900.0 * self.score,
        )


def large_spec(**overrides: Any) -> StudySpec:
    """Return the definition of such a study: six parameters of every kind."""
    space = {
        "ppo": {
            "learning_rate": {"type": "loguniform", "low": 1e-5, "high": 1e-2},
            "learning_epochs": {"type": "int", "low": 2, "high": 10},
            "policy_hidden_layer_sizes": {"type": "categorical", "choices": [list(layers) for layers in LAYERS]},
            "rollouts": {"type": "choice", "values": [16, 24, 32, 48]},
        },
        "reward": {
            "arrival_bonus": {"type": "uniform", "low": 50.0, "high": 200.0},
            "termination": {"type": "loguniform", "low": -200.0, "high": -20.0},
        },
    }
    values = {"study": "big", "env_steps_per_trial": BUDGET, "budget": {"trials": 3000}, "search_space": space}
    return make_spec(**{**values, **overrides})


def store_large_study(paths: CampaignPaths, trials: int, points: int = 30, *, with_files: int = 5) -> CampaignStudy:
    """Store a study of ended trials: two fifths complete, the rest pruned, one in thirty failed.

    Args:
        paths: The runs folder.
        trials: How many.
        points: Reports of a complete trial.
        with_files: The best so many trials get a metrics file of 600 iterations.

    Returns:
        The study; close it.
    """
    study = CampaignStudy.create(open_storage(paths), large_spec(report_points=points))
    planned = _plan(trials, points)
    stored = optuna.load_study(study_name="big", storage=study.storage.optuna)
    stored.add_trials([_frozen(study.spec, trial) for trial in planned])
    with study.storage.session() as session:
        session.add_all(row for trial in planned for row in _rows(trial))
        ended = max(trial.ended for trial in planned)
        seconds = (ended - BEGUN).total_seconds()
        session.add(SessionRow(study="big", host="box", pid=1, started=BEGUN, seen=ended, seconds=seconds))
    complete = [trial for trial in planned if trial.state is OptunaState.COMPLETE]
    for trial in sorted(complete, key=lambda trial: -trial.score)[:with_files]:
        _write_metrics(TrialPaths(paths.study("big").root / trial.folder), trial)
    study.set_status("finished", f"all {trials} trials are done")
    return study


def _plan(trials: int, points: int) -> list[_Planned]:
    chance = random.Random(1)
    planned: list[_Planned] = []
    scores: list[float] = []
    free = [BEGUN, BEGUN]
    for number in range(trials):
        parameters = _draw(chance, number)
        score = _score(parameters, chance)
        state, reached, reason = _fate(chance, number, score, scores, points)
        bisect.insort(scores, score)
        steps = [BUDGET * point // points for point in range(1, reached + 1)]
        started = free[number % 2]
        ended = free[number % 2] = started + timedelta(hours=0.4 * reached / points * chance.uniform(0.9, 1.2))
        reports = {s: score * (1 - math.exp(-4 * s / BUDGET)) + chance.gauss(0, 0.01) for s in steps}
        planned.append(_Planned(number, state, parameters, score, reports, started, ended, reason))
    return planned


def _fate(
    chance: random.Random, number: int, score: float, before: list[float], points: int
) -> tuple[OptunaState, int, str]:
    if number % 30 == 17:
        return OptunaState.FAIL, 3, FAILURES[number // 30 % 2].format(number)
    if number < 4 or score >= before[int(0.6 * len(before))]:
        return OptunaState.COMPLETE, points, "trained and evaluated"
    return OptunaState.PRUNED, chance.randint(3, points - 1), "percentile pruner"


def _draw(chance: random.Random, number: int) -> dict[str, Any]:
    # Later trials stay nearer to what is good, as a sampler that learns would.
    width = 1.0 if number < 10 else 0.45
    rate = min(max(chance.gauss(-3.3, 0.9 * width), -4.99), -2.01)
    return {
        "ppo.learning_rate": 10**rate,
        "ppo.learning_epochs": chance.randint(2, 10),
        "ppo.policy_hidden_layer_sizes": LAYERS[chance.randrange(3)],
        "ppo.rollouts": chance.choice([16, 24, 32, 48]),
        "reward.arrival_bonus": chance.uniform(50, 200),
        "reward.termination": -(10 ** chance.uniform(1.31, 2.3)),
    }


def _score(parameters: dict[str, Any], chance: random.Random) -> float:
    rate = (math.log10(parameters["ppo.learning_rate"]) + 3.3) / 1.2
    bonus = (parameters["reward.arrival_bonus"] - 150) / 150
    layers = (-0.06, 0.0, 0.02)[LAYERS.index(parameters["ppo.policy_hidden_layer_sizes"])]
    return min(max(0.9 - 0.5 * rate**2 - 0.25 * bonus**2 + layers + chance.gauss(0, 0.03), 0.01), 0.99)


def _frozen(spec: StudySpec, trial: _Planned) -> FrozenTrial:
    from vbot_campaign.study import space

    names = {name: spec.parameters[name] for name in trial.parameters}
    frozen = optuna.trial.create_trial(
        state=trial.state,
        value=trial.score if trial.state is OptunaState.COMPLETE else None,
        params=space.encode(spec, trial.parameters),
        distributions={space.stored_name(name, p): space.distribution(p) for name, p in names.items()},
        intermediate_values=trial.reports,
    )
    if trial.state is OptunaState.PRUNED:
        frozen.value = trial.reports[trial.env_steps]
    frozen.datetime_start = trial.started.astimezone().replace(tzinfo=None)
    frozen.datetime_complete = trial.ended.astimezone().replace(tzinfo=None)
    return frozen


def _rows(trial: _Planned) -> list[Any]:
    complete = trial.state is OptunaState.COMPLETE
    common = {"study": "big", "trial": trial.number}
    attempt = AttemptRow(
        **common,
        number=1,
        token="t",
        host="box",
        slot=f"cpu:{trial.number % 2}",
        started=trial.started,
        ended=trial.ended,
        reason=trial.reason,
        exit_code=0,
        first_env_step=0,
        last_env_step=trial.env_steps,
    )
    row = TrialRow(
        **common,
        folder=trial.folder,
        reason=trial.reason,
        env_steps=trial.env_steps,
        env_steps_per_s=12_000.0,
        parts=trial.totals.parts(),
        evaluation=trial.totals.as_dict() if complete else None,
    )
    return [row, attempt, *([_checkpoint(trial)] if complete else [])]


def _checkpoint(trial: _Planned) -> CheckpointRow:
    return CheckpointRow(
        study="big",
        trial=trial.number,
        path=f"{trial.folder}/checkpoints/best_agent.pt",
        env_steps=trial.env_steps,
        kind="best",
        sha256=f"{trial.number:064x}",
        bytes=3_400_000,
        score=trial.score,
        metrics=trial.totals.parts(),
        created=trial.ended,
        deleted=False,
    )


def _write_metrics(folder: TrialPaths, trial: _Planned, lines: int = 600) -> None:
    folder.root.mkdir(parents=True)
    chance = random.Random(trial.number)
    text = "".join(json.dumps(_line(trial, i, lines, chance.gauss(0, 0.03))) + "\n" for i in range(1, lines + 1))
    folder.metrics.write_text(text, encoding="utf-8")


def _line(trial: _Planned, i: int, lines: int, noise: float) -> dict[str, Any]:
    share = i / lines
    skill = trial.score / (1 + math.exp(-12 * (share - 0.35)))
    terms = dict.fromkeys(get_environment("vbot_navigation_section001").rewards, 0.0)
    terms.update(
        {
            "position_tracking": 0.7 + 0.4 * skill,
            "forward_velocity": 0.1 + skill + noise,
            "termination": -0.8 * (1 - skill),
            "arrival_bonus": 2.0 * skill**2,
            "torques": -0.3 - 0.1 * skill,
            "ang_vel_xy": -0.35 + 0.2 * skill,
        }
    )
    finished = 40.0 if i > 5 else 0.0
    success, fell = finished * min(max(skill - 0.1 + noise, 0), 0.97), finished * max(0.6 - skill - noise, 0.02)
    return {
        "v": EVENT_SCHEMA,
        "kind": "progress",
        "time": "2026-02-01T08:00:00.000Z",
        "iteration": i,
        "env_steps": BUDGET * i // lines,
        "episodes": {
            "finished": finished,
            "success": success,
            "reached": min(success * 1.05, finished),
            "fell_before": fell,
            "timed_out": finished - success - fell,
            "goal_progress": finished * min(skill + 0.1, 1),
            "length": finished * 700,
            "reward": finished * 800 * skill,
        },
        "reward_mean": sum(terms.values()),
        "terms": terms,
        "loss": {"policy": -0.01, "value": 4.0 / (1 + 5 * share) + noise, "entropy": -0.05 + 0.03 * share},
        "kl": 0.008 + noise / 20,
        "learning_rate": trial.parameters["ppo.learning_rate"] * (1 - 0.8 * share),
        "std": 1.0 - 0.6 * share,
        "timing": {"env_steps_per_s": 12_000.0 + 4000 * noise, "seconds": 2.1},
    }
