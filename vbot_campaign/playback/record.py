"""Plays episodes, one after another or side by side, and keeps every step of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vbot_campaign.envs.physics.engine import CONTROL_DT_S
from vbot_campaign.envs.registry import env_for
from vbot_campaign.envs.vbot.episodes import Verdict
from vbot_campaign.envs.vbot.rewards import Transition
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.rl.checkpoint import LoadedPolicy
from vbot_campaign.spec.outcomes import Outcome
from vbot_campaign.spec.training import TrainingSpec

Array = NDArray[Any]


@dataclass(frozen=True)
class Episode:
    """One episode: the state at its start and after each of its ``n`` control steps, and how it ended."""

    target: Array
    """(2,), m."""
    positions: Array
    """(n + 1, 19), as `PhysicsEngine.positions`."""
    velocities: Array
    """(n + 1, 18), as `PhysicsEngine.velocities`."""
    actions: Array
    """(n, 12), as the policy gave them: neither filtered nor clipped."""
    torques: Array
    """(n, 12), applied, Nm."""
    rewards: Array
    """(n,)."""
    outcome: Outcome
    arrived_s: float | None
    """Seconds until first inside the goal."""

    @property
    def seconds(self) -> float:
        """Length of the episode."""
        return len(self.actions) * CONTROL_DT_S

    @property
    def distance(self) -> Array:
        """Planar distance to the target, (n + 1,), m."""
        return np.asarray(np.linalg.norm(self.positions[:, :2] - self.target, axis=1))

    @property
    def speed(self) -> Array:
        """Planar speed, (n + 1,), m/s."""
        return np.asarray(np.linalg.norm(self.velocities[:, :2], axis=1))

    def summary(self) -> str:
        """Say in a line how it went."""
        arrival = "never arrived" if self.arrived_s is None else f"arrived after {self.arrived_s:.2f} s"
        return (
            f"{self.outcome.value} after {self.seconds:.2f} s, from {self.distance[0]:.2f} m, {arrival}, "
            f"mean speed {self.speed.mean():.2f} m/s, ended {self.distance[-1]:.2f} m from the target"
        )


class _Recorder:
    """Keeps every step of an environment with one robot; it sees an episode's last state before the next begins."""

    def __init__(self, env: VbotNavigation) -> None:
        self._engine = env.engine
        env.watch_steps(self._keep)

    def begin(self) -> None:
        """Forget the last episode; the present state is the first of the next."""
        self.positions: list[Array] = []
        self.velocities: list[Array] = []
        self.torques: list[Array] = []
        self.arrived_s: float | None = None
        self._keep_state()

    def _keep(self, transition: Transition, verdict: Verdict) -> None:
        self._keep_state()
        self.torques.append(_first(transition.torques))
        self.target = _first(transition.goal.offset) + _first(transition.base.position)[:2]
        self.outcome = _outcome(transition, verdict)
        if bool(transition.arrived[0]):
            self.arrived_s = len(self.torques) * CONTROL_DT_S

    def _keep_state(self) -> None:
        self.positions.append(_first(self._engine.positions))
        self.velocities.append(_first(self._engine.velocities))


def _first(rows: torch.Tensor) -> Array:
    return rows[0].cpu().numpy().copy()


def _outcome(transition: Transition, verdict: Verdict, robot: int = 0) -> Outcome | None:
    if bool(verdict.out_of_bounds[robot]):
        return Outcome.OUT_OF_BOUNDS
    if bool(verdict.terminated[robot]):
        return Outcome.FELL_AFTER if bool(transition.ever_reached[robot]) else Outcome.FELL_BEFORE
    if bool(verdict.success[robot]):
        return Outcome.SUCCESS
    return Outcome.TIMED_OUT if bool(verdict.timed_out[robot]) else None


def record_episodes(loaded: LoadedPolicy, training: TrainingSpec, *, episodes: int, seed: int) -> list[Episode]:
    """Play episodes with the mean action, one after another.

    Args:
        loaded: The policy.
        training: Environment, physics, settings and reward weights.
        episodes: How many.
        seed: Seed of spawns and targets.
    """
    env = env_for(training, threads=1, training=False, num_envs=1, seed=seed)
    recorder = _Recorder(env)
    observations = env.reset()
    recorded = []
    for _ in range(episodes):
        episode, observations = _record_one(loaded, env, recorder, observations)
        recorded.append(episode)
    return recorded


@torch.no_grad()
def _record_one(
    loaded: LoadedPolicy, env: VbotNavigation, recorder: _Recorder, observations: torch.Tensor
) -> tuple[Episode, torch.Tensor]:
    recorder.begin()
    actions, rewards, outcome = [], [], None
    while outcome is None:
        action = loaded.policy.mean(loaded.observation_normalizer.normalize(observations))
        step = env.step(action)
        observations, outcome = step.observations, recorder.outcome
        actions.append(_first(action))
        rewards.append(float(step.rewards[0]))
    episode = Episode(
        target=recorder.target,
        positions=np.stack(recorder.positions),
        velocities=np.stack(recorder.velocities),
        actions=np.stack(actions),
        torques=np.stack(recorder.torques),
        rewards=np.array(rewards, dtype=np.float32),
        outcome=outcome,
        arrived_s=recorder.arrived_s,
    )
    return episode, observations


class _Tape:
    """Keeps every step of all robots of an environment, until each has ended its first episode."""

    def __init__(self, env: VbotNavigation) -> None:
        self._engine = env.engine
        self._rows: dict[str, list[Array]] = {name: [] for name in ("positions", "velocities", "actions", "torques")}
        self._rewards: list[Array] = []
        self._ended: dict[int, tuple[int, Outcome]] = {}
        self._arrived: dict[int, float] = {}
        env.watch_steps(self._keep)

    def begin(self) -> None:
        """Keep the state that all start from."""
        self._rows["positions"].append(self._engine.positions.cpu().numpy().copy())
        self._rows["velocities"].append(self._engine.velocities.cpu().numpy().copy())

    def acted(self, actions: torch.Tensor, rewards: torch.Tensor) -> None:
        """Keep what was done in a step and what it earned."""
        self._rows["actions"].append(actions.cpu().numpy().copy())
        self._rewards.append(rewards.cpu().numpy().copy())

    @property
    def ended(self) -> int:
        """How many robots have ended their first episode."""
        return len(self._ended)

    def episode(self, robot: int) -> Episode:
        """Return a robot's first episode."""
        steps, outcome = self._ended[robot]
        states = {name: np.stack(self._rows[name][: steps + 1])[:, robot] for name in ("positions", "velocities")}
        done = {name: np.stack(self._rows[name][:steps])[:, robot] for name in ("actions", "torques")}
        rewards = np.stack(self._rewards[:steps])[:, robot].astype(np.float32)
        arrived = self._arrived.get(robot)
        return Episode(
            target=self._targets[robot], **states, **done, rewards=rewards, outcome=outcome, arrived_s=arrived
        )

    def _keep(self, transition: Transition, verdict: Verdict) -> None:
        self.begin()
        self._rows["torques"].append(transition.torques.cpu().numpy().copy())
        steps = len(self._rows["torques"])
        if steps == 1:
            # Later a robot that has ended walks to another target.
            self._targets = (transition.goal.offset + transition.base.position[:, :2]).cpu().numpy().copy()
        for robot in range(len(self._targets)):
            outcome = _outcome(transition, verdict, robot)
            if robot not in self._ended and bool(transition.arrived[robot]):
                self._arrived.setdefault(robot, steps * CONTROL_DT_S)
            if robot not in self._ended and outcome is not None:
                self._ended[robot] = (steps, outcome)


@torch.no_grad()
def record_side_by_side(loaded: LoadedPolicy, training: TrainingSpec, *, episodes: int, seed: int) -> list[Episode]:
    """Play the first episodes of several robots at once, with the mean action.

    A step of four robots takes hardly longer than one of a single robot.

    Args:
        loaded: See `record_episodes`.
        training: See `record_episodes`.
        episodes: How many robots.
        seed: See `record_episodes`.
    """
    env = env_for(training, threads=1, training=False, num_envs=episodes, seed=seed)
    tape = _Tape(env)
    observations = env.reset()
    tape.begin()
    while tape.ended < episodes:
        action = loaded.policy.mean(loaded.observation_normalizer.normalize(observations))
        step = env.step(action)
        tape.acted(action, step.rewards)
        observations = step.observations
    return [tape.episode(robot) for robot in range(episodes)]
