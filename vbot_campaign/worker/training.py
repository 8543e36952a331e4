"""The training of one attempt: resume, iterate, checkpoint, evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from vbot_campaign.envs.registry import env_for
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.envs.vec_env import VecEnv
from vbot_campaign.errors import CheckpointNotFoundError
from vbot_campaign.events import STOP_PRUNED, Ended, Result, stop_requested
from vbot_campaign.paths import TrialPaths
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.evaluate import EvaluationInterruptedError
from vbot_campaign.rl.learner import IterationStats, Learner
from vbot_campaign.spec.training import TrainingSpec, TrialSpec, WarmStartRules
from vbot_campaign.worker.checkpoints import CheckpointFolder
from vbot_campaign.worker.evaluation import Evaluation, evaluate_checkpoint
from vbot_campaign.worker.fence import Fence
from vbot_campaign.worker.meta import write_experiment_meta
from vbot_campaign.worker.reporter import Reporter, memory_use
from vbot_campaign.worker.rollout_record import record_rollout
from vbot_campaign.worker.scoring import TrainingScore
from vbot_campaign.worker.signals import StopSignal
from vbot_campaign.worker.trainer import Progress


class IterativeLearner(Protocol):
    """What learns: `rl.learner.Learner`, or another program's algorithm in its shape."""

    device: torch.device
    iteration: int
    env_steps: int

    def iterate(self) -> IterationStats:
        """See `Learner.iterate`."""

    def state_dict(self) -> dict[str, Any]:
        """See `Learner.state_dict`."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Learner.load_state_dict`."""

    def warm_start(self, state: dict[str, Any], rules: WarmStartRules) -> None:
        """See `Learner.warm_start`."""


class Training:
    """The `Trainer` of every algorithm that learns in iterations; by default our own PPO."""

    def __init__(self, paths: TrialPaths, spec: TrialSpec, stop: StopSignal) -> None:
        self._paths = paths
        self._spec = spec
        self._training = spec.training
        self._stop = stop
        torch.set_num_threads(spec.threads.torch)
        self._env = self._make_env()
        self.learner = self.make_learner(self._env, spec)
        self._score = TrainingScore(self._training)
        self._fence = Fence(paths.spec, spec.token)
        self.checkpoints = CheckpointFolder(
            paths, attempt=spec.attempt, settings=self._training.checkpoints, fence=self._fence
        )
        self._extra = {"settings": self._training.model_dump(mode="json")}
        line = self._resume()
        self._reporter = Reporter(
            paths, spec, iteration=self.learner.iteration, env_steps=self.learner.env_steps, line=line
        )
        write_experiment_meta(paths, spec, resumed_from=self.learner.env_steps)
        self._tell_problems()

    def make_learner(self, env: VecEnv, spec: TrialSpec) -> IterativeLearner:
        """Return what learns on an environment; another algorithm's training differs in this alone."""
        training = spec.training
        return Learner(
            env,
            training.scheduled_ppo,
            iterations=training.schedule_iterations,
            seed=training.seed,
            device=spec.device,
            freeze=spec.warm_start_rules.freeze,
            schedule_begin=training.schedule_begin,
        )

    @property
    def env(self) -> VbotNavigation:
        """What is trained on, for those who watch."""
        return self._env

    @property
    def env_steps(self) -> int:
        """See `Trainer.env_steps`."""
        return self.learner.env_steps

    @property
    def iteration(self) -> int:
        """See `Trainer.iteration`."""
        return self.learner.iteration

    @property
    def last_checkpoint(self) -> str | None:
        """See `Trainer.last_checkpoint`."""
        return self.checkpoints.last_file

    def run(self, on_progress: Callable[[Progress], None] | None = None) -> Result:
        """Train to the end of the budget or until asked to stop.

        Raises:
            DivergedError: Loss, weights or physics stopped being finite.
            FencedError: A later attempt owns the folder.
        """
        try:
            while self.learner.env_steps < self._training.env_steps:
                reason = self._stop_reason()
                if reason is not None:
                    return self._stopped(reason)
                progress = self._iterate()
                if on_progress is not None:
                    on_progress(progress)
            return self._finish()
        finally:
            self._reporter.close()

    def _make_env(self) -> VbotNavigation:
        return env_for(self._training, threads=self._spec.threads.physics, training=True)

    def _resume(self) -> dict[str, Any] | None:
        """Continue from the newest good checkpoint, if there is one; return its line of ``metrics.jsonl``."""
        line: dict[str, Any] | None = None
        state = self.checkpoints.load_latest()
        if state is not None:
            begins = self._begins_at(state)
            self.learner.load_state_dict(_restarted(state, self._training) if begins else state)
            self._score.load_state_dict(state["vbot_campaign"]["score"], self.learner.env_steps)
            # The last line of the earlier training is in its own folder. Older checkpoints have none.
            line = None if begins else state["vbot_campaign"].get("progress")
        elif self._training.continuation is not None:
            raise CheckpointNotFoundError(
                f"{self._paths.checkpoints}: the checkpoint that this training goes on from, at "
                f"{self._training.continuation.env_steps:,} env steps, is gone or damaged."
            )
        elif self._spec.warm_start is not None:
            self.learner.warm_start(checkpoint.load(self._spec.warm_start), self._spec.warm_start_rules)
        self.checkpoints.forget_after(self.learner.env_steps)
        return line

    def _begins_at(self, state: dict[str, Any]) -> bool:
        begun = self._training.continuation
        return begun is not None and int(state["vbot_campaign"]["counters"]["env_steps"]) == begun.env_steps

    def _stop_reason(self) -> str | None:
        if self._stop.received is not None:
            return f"signal {self._stop.received}"
        return stop_requested(self._paths.stop_request, self._spec.token)

    def _iterate(self) -> Progress:
        started = time.perf_counter()
        stats = self.learner.iterate()
        seconds = time.perf_counter() - started
        speed = self._training.steps_per_iteration / seconds
        timing = {"env_steps_per_s": round(speed, 1), "seconds": round(seconds, 4), "shares": self._shares(stats)}
        self._reporter.progress(stats, timing=timing, memory=memory_use(self.learner.device))
        point = self._score.add(stats.env_steps, stats.episodes)
        if point is not None:
            self._reporter.point(stats.env_steps, point)
            self.checkpoints.offer_best(self.learner.state_dict(), self._extra, point.score, point.parts)
        if stats.iteration % self._training.checkpoints.every_iterations == 0 or self._is_milestone():
            self._checkpoint()
        return Progress(stats.env_steps, self._training.env_steps, self._score.last, speed)

    def _shares(self, stats: IterationStats) -> dict[str, float]:
        """Return the share of each activity in the iteration's time."""
        physics = self._env.take_physics_seconds()
        seconds = {**stats.seconds, "physics": physics, "environment": stats.seconds["environment"] - physics}
        total = sum(seconds.values())
        return {name: round(value / total, 4) for name, value in sorted(seconds.items())}

    def _checkpoint(self) -> str:
        self._reporter.sync()
        extra = {**self._extra, "score": self._score.state_dict(), "progress": self._reporter.last_progress}
        return self.checkpoints.save_resume_point(
            self.learner.state_dict(), extra, self._score.last, milestone=self._is_milestone()
        )

    def _is_milestone(self) -> bool:
        """Tell whether the last iteration passed one."""
        passed, now = self._training.checkpoints.milestones_passed, self.learner.env_steps
        return passed(now) > passed(now - self._training.steps_per_iteration)

    def _tell_problems(self) -> None:
        for problem in self.checkpoints.problems:
            self._reporter.alert("warning", "checkpoint", problem, iteration=self.learner.iteration)
        self.checkpoints.problems.clear()

    def _stopped(self, reason: str) -> Result:
        if self.learner.iteration > 0:
            self._checkpoint()
        if reason == STOP_PRUNED and self._score.last is not None:
            self._reporter.final_score(self.learner.env_steps, self._score.last)
        return self._result(Ended.STOPPED, reason)

    def _finish(self) -> Result:
        """Evaluate the last policy and the best one on the same episodes, and keep the better as ``best_agent.pt``."""
        file = self._checkpoint()
        self.checkpoints.verify_best()
        self._tell_problems()
        try:
            final = self._evaluate(file)
            earlier = self.checkpoints.best_env_steps() not in (None, self.learner.env_steps)
            best = self._evaluate(self._paths.best_checkpoint.name) if earlier else final
        except EvaluationInterruptedError:
            # All is trained; the next attempt only evaluates.
            return self._result(Ended.STOPPED, f"signal {self._stop.received}")
        if best.score <= final.score:
            best = final
            self.checkpoints.save_best(self.learner.state_dict(), self._extra, final.score, final.parts)
        else:
            self.checkpoints.note_best_score(best.score, best.parts)
        self._reporter.final_score(self.learner.env_steps, best.score)
        self._record(file)
        return self._result(Ended.FINISHED, "trained and evaluated", best=best, final=final)

    def _record(self, last_file: str) -> None:
        """Have the policy that was kept drawn, with a film for TensorBoard where one can be made."""
        best = self._paths.best_checkpoint
        film = record_rollout(
            self._paths,
            best if best.exists() else self._paths.checkpoints / last_file,
            self._spec.recording,
            fence=self._fence,
            interrupted=lambda: self._stop.received is not None,
        )
        if film is not None:
            self._reporter.film(self.learner.env_steps, film)

    def _evaluate(self, file: str) -> Evaluation:
        evaluation = evaluate_checkpoint(
            self._paths.checkpoints / file,
            training=self._training,
            threads=self._spec.threads.physics,
            interrupted=lambda: self._stop.received is not None,
        )
        self._reporter.evaluation(
            iteration=self.learner.iteration,
            env_steps=evaluation.env_steps or 0,
            checkpoint=file,
            episodes=evaluation.episodes,
            score=evaluation.score,
            parts=evaluation.parts,
            seed=self._training.evaluation.seed,
        )
        return evaluation

    def _result(
        self, state: Ended, reason: str, *, best: Evaluation | None = None, final: Evaluation | None = None
    ) -> Result:
        outcome: dict[str, Any] = {}
        if best is not None and final is not None:
            outcome = {
                "score": best.score,
                "parts": best.parts,
                "episodes": best.episodes.as_dict(),
                "final_score": final.score,
            }
        return Result(
            state=state,
            reason=reason,
            attempt=self._spec.attempt,
            token=self._spec.token,
            env_steps=self.learner.env_steps,
            iteration=self.learner.iteration,
            best_checkpoint=self._paths.best_checkpoint.name if self._paths.best_checkpoint.exists() else None,
            last_checkpoint=self.checkpoints.last_file,
            **outcome,
        )


def _restarted(state: dict[str, Any], training: TrainingSpec) -> dict[str, Any]:
    """Return the state that a continued training begins with: the earlier one's, but for the rule of its schedule."""
    if training.continuation is None or training.continuation.schedule == "continue":
        return state
    begun = {"epochs": 0, "learning_rate": training.scheduled_ppo.learning_rate}
    return {**state, "vbot_campaign": {**state["vbot_campaign"], "schedule": begun}}
