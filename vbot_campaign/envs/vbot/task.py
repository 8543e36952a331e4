"""The navigation task: walk to a target on the disc, stop there, do not fall."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from vbot_campaign.envs.physics.engine import CONTROL_DT_S, PhysicsEngine
from vbot_campaign.envs.vbot import rewards
from vbot_campaign.envs.vbot.episodes import EpisodeCounter, Verdict
from vbot_campaign.envs.vbot.kinematics import DISC_RADIUS, BaseState, GroundContact
from vbot_campaign.envs.vbot.memory import EpisodeMemory
from vbot_campaign.envs.vbot.model import ACTION_FILTER, ACTION_SCALE, DAMPING, DEFAULT_POSE, STIFFNESS, TORQUE_LIMITS
from vbot_campaign.envs.vbot.observation import OBSERVATION_SIZE, Goal, Observer
from vbot_campaign.envs.vbot.randomisation import make_randomisation
from vbot_campaign.envs.vbot.spawn import Spawner, SpawnSettings
from vbot_campaign.envs.vec_env import StepResult
from vbot_campaign.spec.outcomes import EpisodeTotals

MAX_TILT = math.radians(75.0)
MAX_JOINT_SPEED = 100.0
"""rad/s; beyond it the simulation has left physics."""
SUCCESS_STEPS = 50
SUCCESS_SPEED = 0.15

StepWatcher = Callable[[rewards.Transition, Verdict], None]
"""Sees each step of all environments before the ended ones begin again."""


class VbotNavigation:
    """`VecEnv` of the VBot on its disc; the physics engine is exchangeable.

    All memory of an episode lives in one `EpisodeMemory`, and a reset writes all of it.
    """

    observation_size = OBSERVATION_SIZE
    action_size = len(DEFAULT_POSE)

    def __init__(
        self,
        engine: PhysicsEngine,
        settings: dict[str, Any],
        weights: dict[str, float],
        *,
        seed: int,
        desynchronise: bool,
    ) -> None:
        """Build the task.

        Args:
            engine: Physics of all robots.
            settings: Every declared setting (`EnvironmentDeclaration.resolve_settings`).
            weights: Every reward weight (`EnvironmentDeclaration.resolve_rewards`).
            seed: Seed of spawns and targets.
            desynchronise: Start the first episodes at random points of the clock, so that resets spread over time.
                Those first, shortened episodes are not counted.
        """
        self.engine = engine
        self.num_envs = engine.num_envs
        self.device = torch.device("cpu")
        self.max_steps = round(settings["episode_seconds"] / CONTROL_DT_S)
        self._desynchronise = desynchronise
        self._generator = torch.Generator().manual_seed(seed)
        self._spawner = Spawner(
            SpawnSettings(
                settings["spawn_inner_radius"],
                settings["spawn_outer_radius"],
                settings["target_radius"],
                settings["platform_radius"],
                settings["reset_pose"],
            ),
            self._generator,
        )
        shape = rewards.RewardShape(
            settings["speed_cap"], settings["braking_speed"], settings["braking_gain"], settings["stop_window_steps"]
        )
        self._reward = rewards.RewardFunction(weights, shape)
        self._observer = Observer(settings["position_scale"], self.device)
        self._contact = GroundContact(self.device)
        self._randomisation = make_randomisation(settings, engine, seed=seed)
        self._watchers: list[StepWatcher] = []
        self._default_pose = torch.tensor(DEFAULT_POSE)
        self._limits = torch.tensor(TORQUE_LIMITS)
        self._memory = EpisodeMemory.empty(self.num_envs)
        self._counter = EpisodeCounter(self.num_envs, self.max_steps * CONTROL_DT_S)
        self._term_sums = torch.zeros(len(rewards.TERMS), dtype=torch.float64)
        self._term_steps = 0
        self._broken_sum = torch.zeros((), dtype=torch.int64)
        self._broken_steps = 0
        self._physics_seconds = 0.0

    def reset(self) -> torch.Tensor:
        """See `VecEnv.reset`."""
        self._start_episodes(torch.arange(self.num_envs))
        if self._desynchronise:
            self._memory.steps[:] = torch.randint(self.max_steps, (self.num_envs,), generator=self._generator)
            self._memory.counted[:] = self._memory.steps == 0
        return self.observe()

    def observe(self) -> torch.Tensor:
        """See `VecEnv.observe`."""
        base = self._base()
        goal = Goal.seen_from(base, self._memory.target)
        observations = self._observer(base, goal, self._memory.filtered_action, self._memory.target_yaw)
        return self._randomisation.sense(observations)

    def step(self, actions: torch.Tensor) -> StepResult:
        """See `VecEnv.step`. Actions are not clipped; the filter and the torque limits bound their effect."""
        m = self._memory
        before = m.filtered_action
        m.filtered_action = ACTION_FILTER * actions + (1.0 - ACTION_FILTER) * before
        self._randomisation.begin_step(m.steps)
        torques = self._randomisation.torques(self._torques(m.filtered_action))
        started = time.perf_counter()
        self.engine.step(torques)
        self._physics_seconds += time.perf_counter() - started
        base = self._base()
        goal = Goal.seen_from(base, m.target)
        transition, verdict = self._judge(base, goal, torques, m.filtered_action - before)
        terms = self._reward(transition)
        reward = terms.sum(dim=0)
        self._account(terms, reward, goal, verdict)
        for watch in self._watchers:
            watch(transition, verdict)
        observations = self._randomisation.sense(self._observer(base, goal, m.filtered_action, m.target_yaw))
        final = torch.nan_to_num(observations, nan=0.0, posinf=0.0, neginf=0.0)
        return StepResult(self._restart(final, verdict), reward, verdict.terminated, verdict.truncated, final)

    def _torques(self, filtered_action: torch.Tensor) -> torch.Tensor:
        angles, speeds = self.engine.positions[:, 7:].float(), self.engine.velocities[:, 6:].float()
        wanted = self._default_pose + ACTION_SCALE * filtered_action
        torques = STIFFNESS * (wanted - angles) - DAMPING * speeds
        return torques.clamp(-self._limits, self._limits)

    def _judge(
        self, base: BaseState, goal: Goal, torques: torch.Tensor, action_change: torch.Tensor
    ) -> tuple[rewards.Transition, Verdict]:
        """Advance the episodes' memory by one step and say which end."""
        m = self._memory
        speed = base.linear_velocity[:, :2].square().sum(dim=1).sqrt()
        arrived = goal.reached & ~m.ever_reached
        m.ever_reached = m.ever_reached | goal.reached
        m.arrival_step = torch.where(arrived, m.steps, m.arrival_step)
        fence_entered = (goal.distance < rewards.INNER_FENCE_RADIUS) & ~m.fence_entered
        m.fence_entered = m.fence_entered | fence_entered
        m.stopped_steps = torch.where(goal.reached & (speed < SUCCESS_SPEED), m.stopped_steps + 1, 0)
        out_of_bounds = base.position[:, :2].square().sum(dim=1) > DISC_RADIUS**2
        terminated = self._fallen(base) | out_of_bounds
        transition = rewards.Transition(
            base=base,
            goal=goal,
            speed=speed,
            initial_distance=m.initial_distance,
            previous_distance=m.previous_distance,
            ever_reached=m.ever_reached,
            arrived=arrived,
            fence_entered=fence_entered,
            steps_since_arrival=m.steps - m.arrival_step,
            torques=torques,
            joint_velocity_change=base.joint_velocities - m.joint_velocity,
            action_change=action_change,
            terminated=terminated,
        )
        m.steps = m.steps + 1
        m.previous_distance = goal.distance
        m.joint_velocity = base.joint_velocities
        success = (m.stopped_steps >= SUCCESS_STEPS) & ~terminated
        timed_out = (m.steps >= self.max_steps) & ~terminated & ~success
        return transition, Verdict(terminated, success, timed_out, out_of_bounds)

    def _fallen(self, base: BaseState) -> torch.Tensor:
        tilt = torch.atan2(base.up[:, :2].square().sum(dim=1).sqrt(), base.up[:, 2].abs())
        fastest = base.joint_velocities.abs().amax(dim=1)
        # A NaN compares false with everything, so "not slower than the limit" catches it.
        broken = ~(fastest <= MAX_JOINT_SPEED) | ~torch.isfinite(base.position).all(dim=1)
        self._broken_sum += broken.sum()
        self._broken_steps += self.num_envs
        return self._contact(base) | (tilt > MAX_TILT) | broken

    def _account(self, terms: torch.Tensor, reward: torch.Tensor, goal: Goal, verdict: Verdict) -> None:
        self._memory.reward = self._memory.reward + reward
        self._term_sums += terms.sum(dim=1, dtype=torch.float64)
        self._term_steps += self.num_envs
        self._counter.add(self._memory, goal.distance, verdict)

    def _restart(self, observations: torch.Tensor, verdict: Verdict) -> torch.Tensor:
        ended = verdict.ended.nonzero().flatten()
        if len(ended) == 0:
            return observations
        self._start_episodes(ended)
        fresh = observations.clone()
        fresh[ended] = self._observe_some(ended)
        return fresh

    def _start_episodes(self, indices: torch.Tensor) -> None:
        spawn = self._spawner.draw(len(indices))
        self._randomisation.restart(indices)
        self.engine.reset(indices, spawn.positions, torch.zeros(len(indices), 18, dtype=torch.float64))
        distance = (spawn.targets - spawn.positions[:, :2].float()).square().sum(dim=1).sqrt()
        self._memory.restart(indices, spawn.targets, spawn.target_yaw, distance)

    def _observe_some(self, indices: torch.Tensor) -> torch.Tensor:
        base = BaseState.from_engine(self.engine.positions[indices], self.engine.velocities[indices])
        m = self._memory
        goal = Goal.seen_from(base, m.target[indices])
        observations = self._observer(base, goal, m.filtered_action[indices], m.target_yaw[indices])
        return self._randomisation.sense_some(observations, indices)

    def _base(self) -> BaseState:
        return BaseState.from_engine(self.engine.positions, self.engine.velocities)

    def watch_steps(self, watcher: StepWatcher) -> None:
        """Show every later step to a watcher: for evaluations, so that training computes nothing it does not need."""
        self._watchers.append(watcher)

    def take_totals(self) -> EpisodeTotals:
        """See `VecEnv.take_totals`."""
        return self._counter.take()

    def take_term_means(self) -> dict[str, float]:
        """See `VecEnv.take_term_means`."""
        means = (self._term_sums / max(self._term_steps, 1)).tolist()
        self._term_sums.zero_()
        self._term_steps = 0
        return dict(zip(rewards.TERMS, means, strict=True))

    def take_broken_share(self) -> float:
        """See `VecEnv.take_broken_share`."""
        share = int(self._broken_sum) / max(self._broken_steps, 1)
        self._broken_sum.zero_()
        self._broken_steps = 0
        return share

    def take_physics_seconds(self) -> float:
        """Return the wall time spent in the physics engine since the last call."""
        seconds, self._physics_seconds = self._physics_seconds, 0.0
        return seconds

    def count_first_episodes_only(self) -> None:
        """From now on count only the first episode of each environment; call before `reset`."""
        self._counter.first_only = True

    def all_first_episodes_done(self) -> bool:
        """Whether each environment has finished an episode."""
        return self._counter.all_done()

    def state_dict(self) -> dict[str, Any]:
        """See `VecEnv.state_dict`."""
        return {
            "engine": self.engine.state_dict(),
            "memory": self._memory.state_dict(),
            "counter": self._counter.state_dict(),
            "generator": self._generator.get_state(),
            "randomisation": self._randomisation.state_dict(),
            "term_sums": self._term_sums.clone(),
            "term_steps": self._term_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `VecEnv.load_state_dict`."""
        self.engine.load_state_dict(state["engine"])
        self._memory.load_state_dict(state["memory"])
        self._counter.load_state_dict(state["counter"])
        self._generator.set_state(state["generator"])
        if state.get("randomisation"):
            self._randomisation.load_state_dict(state["randomisation"])
        self._term_sums.copy_(state["term_sums"])
        self._term_steps = int(state["term_steps"])

    def load_generators(self, state: dict[str, Any]) -> None:
        """See `VecEnv.load_generators`."""
        self._generator.set_state(state["generator"])
        if state.get("randomisation"):
            self._randomisation.load_generator(state["randomisation"])
