"""Rules over the curve of one training: collapse, reward hacking, a policy that does nothing.

The curve is cut into stretches of equal length in env steps, long enough for `MIN_EPISODES` episodes each. A rule looks
at `SMOOTH` stretches taken together, because a stretch is shorter than an episode may be: with 1024 robots and 12
million env steps, one stretch is 390 steps of each robot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.study import AlertSettings
from vbot_campaign.spec.training import TrainingSpec
from vbot_campaign.supervisor.alerts import Alert

STRETCHES = 30
"""Stretches of a training, where episodes end often enough."""
MIN_EPISODES = 100
SMOOTH = 3

MIN_FALL = 0.1
"""Share of the highest possible score that a collapse must cost, so that low scores may wobble."""
SUCCESS_FALL = 0.1
"""What the success rate loses where a reward is gamed."""
REWARD_RISE = 0.1
"""Share by which the reward rises meanwhile."""
LAZY_WINDOW = 0.2
"""Share of a trial's env steps that a lazy policy lasts."""
AT_THE_CAP = 0.8
"""Share of a lazy policy's episodes that the clock ends."""
NO_PROGRESS = 0.2
"""Share of the way to the goal that it does not cover."""
LEARNS = 0.05
"""What that share gains over the window where the policy learns to walk after all."""


@dataclass(frozen=True)
class Progress:
    """What one progress line says of the curve."""

    env_steps: int
    episodes: EpisodeTotals
    reward_mean: float | None = None
    """Per env step; None where a worker does not tell."""


@dataclass(frozen=True)
class Stretch:
    """A part of a training."""

    env_steps: int
    """At its end."""
    episodes: EpisodeTotals
    """Of those that ended in it."""
    reward_sum: float | None
    """Sum over its env steps; None where a worker does not tell."""
    length: int
    """Its env steps."""

    @property
    def reward_per_step(self) -> float | None:
        """Mean reward of an env step."""
        return None if self.reward_sum is None else self.reward_sum / self.length

    def rate(self, count: str) -> float:
        """Return a field of the totals per episode."""
        return float(getattr(self.episodes, count)) / self.episodes.finished


def together(stretches: Sequence[Stretch]) -> Stretch:
    """Return neighbouring stretches as one."""
    sums = [stretch.reward_sum for stretch in stretches]
    total = None if None in sums else sum(value for value in sums if value is not None)
    episodes = sum((stretch.episodes for stretch in stretches), EpisodeTotals())
    return Stretch(stretches[-1].env_steps, episodes, total, sum(stretch.length for stretch in stretches))


class TrainingRules:
    """Watches one training from its first line on.

    An env step counts the first time it is seen: a resumed worker writes the stretch since its checkpoint again.

    Args:
        training: What is trained.
        trial: Its number.
        settings: The limits.
    """

    def __init__(self, training: TrainingSpec, trial: int, settings: AlertSettings) -> None:
        self._training = training
        self._trial = trial
        self._settings = settings
        self._stretches: list[Stretch] = []
        self._begin = self._env_steps = 0
        self._episodes = EpisodeTotals()
        self._reward: float | None = 0.0
        self._best = 0.0
        self._told: set[str] = set()

    def feed(self, line: Progress) -> list[Alert]:
        """Take a line; return what is new about the training, each cause once.

        What is to stop the trial is returned for as long as it holds: a supervisor may have died before it did so.
        """
        if line.env_steps <= self._env_steps:
            return []
        new, self._env_steps = line.env_steps - self._env_steps, line.env_steps
        self._episodes += line.episodes
        if self._reward is not None:
            self._reward = None if line.reward_mean is None else self._reward + line.reward_mean * new
        if not self._is_full():
            return []
        self._stretches.append(Stretch(self._env_steps, self._episodes, self._reward, self._env_steps - self._begin))
        self._begin, self._episodes, self._reward = self._env_steps, EpisodeTotals(), 0.0
        alerts = [alert for alert in self._look() if alert.stop or alert.cause not in self._told]
        self._told |= {alert.cause for alert in alerts}
        return alerts

    def _is_full(self) -> bool:
        length = self._training.env_steps / STRETCHES
        return self._env_steps - self._begin >= length and self._episodes.finished >= MIN_EPISODES

    def _look(self) -> Iterator[Alert]:
        if len(self._stretches) < SMOOTH:
            return
        now = together(self._stretches[-SMOOTH:])
        rules: tuple[Callable[[Stretch], tuple[str, str, bool] | None], ...]
        rules = (self._collapse, self._reward_hacking, self._lazy_policy)
        for rule in rules:
            found = rule(now)
            if found is not None:
                cause, message, stop = found
                yield Alert("warning", cause, message, trial=self._trial, once=True, stop=stop)

    def _collapse(self, now: Stretch) -> tuple[str, str, bool] | None:
        objective, settings = self._training.objective, self._settings.collapse
        score, most = objective.score(now.episodes.parts() or {}), sum(t.weight for t in objective.terms().values())
        self._best = max(self._best, score)
        fall = self._best - score
        if fall < settings.drop * self._best or fall < MIN_FALL * most or settings.drop == 1.0:
            return None
        share = fall / self._best
        message = f"the score fell from {self._best:.3f} to {score:.3f} (-{share:.0%}) at {now.env_steps:,} env steps"
        return "collapse", message, settings.stop

    def _reward_hacking(self, now: Stretch) -> tuple[str, str, bool] | None:
        settings = self._settings.reward_hacking
        begin = self._before(settings.window)
        if begin is None:
            return None
        rise, what = _rise(begin, now)
        before, after = begin.rate("success"), now.rate("success")
        if rise < REWARD_RISE or before - after < SUCCESS_FALL:
            return None
        message = (
            f"the reward per {what} rose by {rise:.0%} while the success rate fell from {before:.0%} to {after:.0%} "
            f"({begin.env_steps:,} to {now.env_steps:,} env steps)"
        )
        return "reward_hacking", message, settings.stop

    def _lazy_policy(self, now: Stretch) -> tuple[str, str, bool] | None:
        since = now.env_steps - LAZY_WINDOW * self._training.env_steps
        if self._stretches[0].env_steps > since:
            return None
        stretches = [stretch for stretch in self._stretches if stretch.env_steps > since]
        lately = together(stretches)
        timed_out, progress = lately.rate("timed_out"), lately.rate("goal_progress")
        learns = stretches[-1].rate("goal_progress") - stretches[0].rate("goal_progress") > LEARNS
        if timed_out < AT_THE_CAP or progress > NO_PROGRESS or learns:
            return None
        message = (
            f"{timed_out:.0%} of the episodes last until the clock ends them, with {progress:.0%} of the way covered "
            f"(up to {now.env_steps:,} env steps)"
        )
        return "lazy_policy", message, False

    def _before(self, window: float) -> Stretch | None:
        """Return the smoothed stretch a window ago; None where the training is too young."""
        until = self._env_steps - window * self._training.env_steps
        earlier = [stretch for stretch in self._stretches if stretch.env_steps <= until]
        return together(earlier[-SMOOTH:]) if len(earlier) >= SMOOTH else None


def _rise(begin: Stretch, now: Stretch) -> tuple[float, str]:
    """Return by which share the reward rose, and of what: of an episode or of an env step, whichever rose more."""
    rises = [(_share(begin.rate("reward"), now.rate("reward")), "episode")]
    if begin.reward_per_step is not None and now.reward_per_step is not None:
        rises.append((_share(begin.reward_per_step, now.reward_per_step), "env step"))
    return max(rises)


def _share(before: float, after: float) -> float:
    return (after - before) / abs(before) if before else float(after > 0.0)
