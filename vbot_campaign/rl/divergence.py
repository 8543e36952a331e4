"""Says what stopped being finite numbers: the physics, what is seen of it, the loss or the weights."""

from __future__ import annotations

import math

from vbot_campaign.errors import DivergedError

MAX_BROKEN_SHARE = 0.1
"""Of an iteration's env steps. A robot whose state breaks once in a while has fallen, and begins again; where a tenth
of all states is broken there is nothing to learn."""


def require_sound_physics(broken_share: float, iteration: int) -> None:
    """Check the states of the robots.

    Args:
        broken_share: `VecEnv.take_broken_share` of the iteration.
        iteration: For the message.

    Raises:
        DivergedError: Too many are not finite, or faster than any robot.
    """
    if broken_share > MAX_BROKEN_SHARE:
        raise DivergedError(
            f"iteration {iteration}: the physics left sense in {broken_share:.0%} of the env steps (states that "
            "are not finite, or joints faster than any robot's). Check the environment's settings."
        )


def require_finite_rewards(reward_mean: float, terms: dict[str, float], iteration: int) -> None:
    """Check the rewards before the losses, which are not finite either then, and would be blamed.

    Args:
        reward_mean: Per env step.
        terms: Mean of each reward term.
        iteration: For the message.

    Raises:
        DivergedError: They are not finite.
    """
    if not math.isfinite(reward_mean):
        bad = ", ".join(name for name, mean in terms.items() if not math.isfinite(mean)) or "their sum"
        raise DivergedError(
            f"iteration {iteration}: the rewards are not finite ({bad}): the mean is {reward_mean}. "
            "Lower the weights under reward."
        )


def require_finite(name: str, number: float, iteration: int) -> None:
    """Check something of an update.

    Raises:
        DivergedError: It is not finite.
    """
    if not math.isfinite(number):
        raise DivergedError(
            f"iteration {iteration}: the {name} is {number}, not a finite number. "
            "Lower ppo.learning_rate or the weights under reward."
        )
