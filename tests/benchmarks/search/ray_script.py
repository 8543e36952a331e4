"""Ray Tune with ASHA and OptunaSearch on recorded trainings; runs in an environment that has Ray and Optuna alone.

``python -m tests.benchmarks.search.ray_script JOB OUT``: both are JSON, see `tests.benchmarks.search.ray_tune`. A
trainable plays a curve, one at a time, and reports at every point of the grid and at its end.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna.distributions import json_to_distribution
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from tests.benchmarks.search.nearest import free, nearest, put_at


class Curve(tune.Trainable):  # type: ignore[misc]
    """A configuration whose reports are known."""

    def setup(self, config: dict[str, Any], trainings: dict[str, Any]) -> None:
        """Begin at its start."""
        self._trainings = trainings
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin with another one, in the same process."""
        training = self._trainings[str(new_config["configuration"])]
        self._reports = [*training["curve"], [training["env_steps"], training["score"]]]
        self._next = 0
        return True

    def step(self) -> dict[str, Any]:
        """Return the next report; the last one is the evaluation."""
        env_steps, score = self._reports[self._next]
        self._next += 1
        if score is None:
            raise RuntimeError("this training failed")
        return {"score": score, "env_steps": env_steps, "done": self._next == len(self._reports)}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, int]:
        """Return where it is; Tune saves what it stops."""
        return {"next": self._next}

    def load_checkpoint(self, checkpoint: dict[str, int]) -> None:
        """Go on there."""
        self._next = checkpoint["next"]


class NearestSearch(OptunaSearch):  # type: ignore[misc]
    """Ray's OptunaSearch, whose points stand for the nearest free configurations of the table."""

    def __init__(self, job: dict[str, Any], repetition: dict[str, Any]) -> None:
        """Begin a repetition."""
        self.distributions = {name: json_to_distribution(text) for name, text in job["distributions"].items()}
        super().__init__(
            space=self.distributions,
            metric="score",
            mode="max",
            points_to_evaluate=[job["prior"]],
            sampler=optuna.samplers.TPESampler(seed=repetition["repetition"]),
        )
        self._stored = job["stored"]
        self._trainings = repetition["trainings"]
        self._budget = repetition["budget"]
        self.begun: dict[str, int] = {}
        """Configuration by Ray's trial."""
        self.trained: dict[str, int] = {}
        """Env steps by Ray's trial."""

    def suggest(self, trial_id: str) -> Any:
        """Return the next configuration, or the sign that there is none."""
        left = {n: p for n, p in free(self._stored, self.begun.values()).items() if str(n) in self._trainings}
        if not left or sum(self.trained.values()) >= self._budget:
            return Searcher.FINISHED
        super().suggest(trial_id)
        trial = self._ot_trials[trial_id]
        number = nearest(self.distributions, trial.params, left)
        put_at(self._ot_study, trial, self.distributions, self._stored[number])
        self.begun[trial_id] = number
        return {"configuration": number}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Count a report."""
        self.trained[trial_id] = result["env_steps"]
        super().on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Count the last report of a trial."""
        if error:
            self.trained[trial_id] = self._trainings[str(self.begun[trial_id])]["env_steps"]
        elif result:
            self.trained[trial_id] = result["env_steps"]
        super().on_trial_complete(trial_id, result, error)


def play(job: dict[str, Any], repetition: dict[str, Any], folder: Path) -> list[list[int]]:
    """Return configuration and trained env steps of each trial, in the order in which they were begun."""
    search = NearestSearch(job, repetition)
    trainings = repetition["trainings"]
    longest = max(training["env_steps"] for training in trainings.values())
    # Beyond every training's end, so that ASHA stops none there before its evaluation.
    asha = ASHAScheduler(
        time_attr="env_steps", metric="score", mode="max", grace_period=job["grace_period"], max_t=longest + 1
    )
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(Curve, trainings=trainings), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=search, scheduler=asha, num_samples=-1, max_concurrent_trials=1, reuse_actors=True
        ),
        run_config=tune.RunConfig(name=f"repetition-{repetition['repetition']}", storage_path=str(folder), verbose=0),
    )
    tuner.fit()
    return [[number, search.trained.get(trial, 0)] for trial, number in search.begun.items()]


def main(job_file: str, out_file: str) -> None:
    """Play all repetitions; the output is written after each."""
    job = json.loads(Path(job_file).read_text())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    played: dict[int, list[list[int]]] = {}
    with tempfile.TemporaryDirectory(prefix="vbot-ray-") as folder:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=folder)
        try:
            for repetition in job["repetitions"]:
                played[repetition["repetition"]] = play(job, repetition, Path(folder))
                Path(out_file).write_text(json.dumps(played))
                print(f"Ray Tune: {len(played)} of {len(job['repetitions'])} repetitions", file=sys.stderr, flush=True)
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:3])
