"""What is not finite any more ends the attempt, and the error says what it was and when."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.workers import tiny_trial
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.errors import DivergedError
from vbot_campaign.events import EXIT_CODES, Ended, Result
from vbot_campaign.rl import divergence
from vbot_campaign.rl.learner import Learner
from vbot_campaign.worker.attempt import run_attempt
from vbot_campaign.worker.trainers.skrl_ppo import SkrlTraining
from vbot_campaign.worker.training import Training


def diverged(folder: Path, on_env: Callable[[VbotNavigation], None] | None = None, **changes: Any) -> Result:
    """Train with a worker's own code in this process, and return the result, which must be a divergence."""
    paths = tiny_trial(folder, env_steps=512 * 8, **changes)
    assert run_attempt(paths.root, on_env=on_env) == EXIT_CODES[Ended.DIVERGED], paths.result.read_text()
    result = Result.read(paths.result)
    assert result is not None
    assert (result.state, result.score) == (Ended.DIVERGED, None)
    assert result.reason.startswith(f"iteration {result.iteration}: ")
    return result


def after_steps(count: int, spoil: Callable[[VbotNavigation], None]) -> Callable[[VbotNavigation], None]:
    """Spoil the physics after every step of the engine from a number of steps on."""

    def install(env: VbotNavigation) -> None:
        step, done = env.engine.step, [0]

        def spoiled(torques: torch.Tensor) -> None:
            step(torques)
            done[0] += 1
            if done[0] > count:
                spoil(env)

        env.engine.step = spoiled  # type: ignore[method-assign]

    return install


@pytest.mark.parametrize("trainer", ["builtin", "skrl"])
@pytest.mark.parametrize("number", [math.nan, 1e6])
def test_physics_that_breaks(tmp_path: Path, number: float, trainer: str) -> None:
    result = diverged(
        tmp_path,
        after_steps(32, lambda env: env.engine.velocities.__setitem__((slice(None), 8), number)),
        trainer=trainer,
    )
    assert result.iteration == 3
    assert "the physics left sense in 100% of the env steps" in result.reason


def test_a_robot_that_breaks_once_has_fallen_and_goes_on(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path, env_steps=512 * 2)
    spoil = after_steps(20, lambda env: env.engine.velocities.__setitem__((0, 8), math.nan))
    assert run_attempt(paths.root, on_env=spoil) == 0


def test_rewards_that_overflow(tmp_path: Path) -> None:
    result = diverged(tmp_path, reward={"alive_bonus": 1e38, "forward_velocity": 3e38})
    assert re.search("the .* loss is .* weights under reward", result.reason)


def test_a_loss_that_is_not_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vbot_campaign.rl import ppo

    real, calls = ppo.ppo_loss, [0]

    def spoiled(*arguments: Any) -> ppo.LossParts:
        calls[0] += 1
        parts = real(*arguments)
        # 2 epochs of 2 mini-batches an iteration: the 10th is in the third.
        return ppo.LossParts(
            parts.policy, parts.value * math.nan if calls[0] == 10 else parts.value, parts.entropy, parts.kl
        )

    monkeypatch.setattr(ppo, "ppo_loss", spoiled)
    result = diverged(tmp_path)
    assert result.iteration == 3
    assert "the value loss is nan" in result.reason


@pytest.mark.parametrize("trainer", [Training, SkrlTraining])
def test_weights_that_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: type[Training]) -> None:
    make = trainer.make_learner

    def with_huge_weights(self: Any, env: Any, spec: Any) -> Any:
        learner = make(self, env, spec)
        networks = learner.policy if isinstance(learner, Learner) else learner._networks
        with torch.no_grad():
            networks.value_layer.weight.fill_(3e38)
        return learner

    monkeypatch.setattr(trainer, "make_learner", with_huge_weights)
    result = diverged(tmp_path, trainer="builtin" if trainer is Training else "skrl")
    assert result.iteration == 1
    assert re.search("the (policy loss|value loss|gradient norm|sum of the weights) is", result.reason, re.IGNORECASE)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_each_thing_is_named(number: float) -> None:
    with pytest.raises(DivergedError, match=r"iteration 7: the rewards are not finite \(torques\)"):
        divergence.require_finite_rewards(number, {"torques": number, "alive_bonus": 1.0}, 7)
    with pytest.raises(DivergedError, match="iteration 7: the sum of the weights is"):
        divergence.require_finite("sum of the weights", number, 7)
    with pytest.raises(DivergedError, match="iteration 7: the physics left sense in 11%"):
        divergence.require_sound_physics(0.11, 7)
    divergence.require_sound_physics(0.1, 7)
