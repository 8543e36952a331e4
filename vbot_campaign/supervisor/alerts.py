"""Alerts: what a person should know, with a level, a cause and what to do about it.

The rules in here and in `training_alerts` are plain: they are shown what is the case and answer with alerts. They read
no clock, no file and no GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vbot_campaign.spec.budget import phase_budget
from vbot_campaign.spec.study import AlertSettings, Budget
from vbot_campaign.study.snapshot import AlertView, TrialState, TrialView
from vbot_campaign.supervisor.budget import BudgetUse
from vbot_campaign.supervisor.gpus import GpuReading

LEVELS = ("info", "warning", "error")

NEARLY = 0.9
"""Share of a budget at which it is nearly used."""
LASTING = 3
"""Readings in a row that make a state of a GPU worth an alert; a peak of a moment is none."""
COOLER_C = 5.0
"""How far below its limit a GPU must cool before the same alert may come again; a limit is else crossed all day."""
EMPTIER = 0.05
"""The same for its memory, as a share."""

ADVICE = {
    "gpu_memory": "lower workers.num_envs or workers.slots_per_gpu, or end what else runs on the GPU",
    "gpu_temperature": "look after fans, dust and airflow, or lower its power limit: nvidia-smi -pl WATTS",
    "gpu_throttled": "trainings take longer than planned; look after cooling and power supply",
    "low_disk": "free some space, move the runs folder, or lower checkpoints.disk_budget_gb",
    "disk_full": "free some space; the trial goes on from its last checkpoint",
    "diverged": "one trial of many is no harm; if several do, lower the upper bound of ppo.learning_rate",
    "hang": "look at the stacks in worker.log; if long iterations are normal here, raise workers.watchdog_s",
    "out_of_memory": "lower workers.num_envs, or narrow the search of rollouts and layer sizes",
    "repeated_failures": "look at worker.log of the trials, mend the cause, then resume the study",
    "no_improvement": "the search may be done: stop the study, or widen the space in a new one",
    "collapse": "the best policy is kept; more of such trials ask for a lower learning rate or alerts.collapse.stop",
    "reward_hacking": "watch the policy (play) and audit the reward: something else than finishing pays",
    "lazy_policy": "the robot stays on its feet and goes nowhere: lower alive_bonus, or raise the rewards for progress",
    "budget": "if it is to go on then, raise it: resume NAME with --trials +8, --budget-hours +4 or --env-steps +50M",
    "finished": "",
    "stopped": "go on with: vbot-campaign resume",
    "notify": "try it with: vbot-campaign alerts --test",
}
"""What to do, by cause."""


@dataclass(frozen=True)
class Alert:
    """Something a person should know."""

    level: str
    """One of `LEVELS`."""
    cause: str
    """A word by which scripts tell alerts apart; workers may have more than `ADVICE` knows."""
    message: str
    trial: int | None = None
    told_at: str = ""
    """When a worker told it (UTC, ISO); empty where the supervisor noticed it."""
    once: bool = False
    """It is never told again, after a restart neither: for its trial, or in these words where it is about none."""
    stop: bool = False
    """The trial is to be stopped."""

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE.get(self.cause, "")

    @property
    def key(self) -> tuple[str, int | None, str]:
        """What makes two alerts the same one."""
        return alert_key(self.cause, self.trial, self.message, self.told_at)

    def view(self, time: str) -> AlertView:
        """Return it as the study stores it.

        Args:
            time: UTC, ISO.
        """
        return AlertView(time, self.level, self.cause, self.message, self.advice, self.trial)


def alert_key(cause: str, trial: int | None, message: str, told_at: str) -> tuple[str, int | None, str]:
    """Return what makes two alerts the same: `Alert.key`, for one that is read from a log."""
    if told_at:
        return f"{cause} {told_at}", trial, message
    return cause, trial, "" if trial is not None else message


class GpuRules:
    """Looks at the readings of the GPUs that a study uses.

    Args:
        settings: The limits.
        uuids: The GPUs.
    """

    def __init__(self, settings: AlertSettings, uuids: Iterable[str]) -> None:
        self._settings = settings
        self._uuids = frozenset(uuids)
        self._lasting: Counter[tuple[str, str]] = Counter()

    def look(self, readings: Sequence[GpuReading]) -> list[Alert]:
        """Return an alert for every state that has just lasted for `LASTING` looks."""
        return [alert for gpu in readings if gpu.uuid in self._uuids for alert in self._look_at(gpu)]

    def _look_at(self, gpu: GpuReading) -> Iterator[Alert]:
        limit, used = self._settings.gpu_memory_percent / 100.0, gpu.memory_used_mb / gpu.memory_total_mb
        if self._has_come(gpu, "gpu_memory", used > limit, used < limit - EMPTIER):
            share = f"{gpu.memory_used_mb / 1e3:.1f} of {gpu.memory_total_mb / 1e3:.1f} GB ({used:.0%})"
            yield Alert("warning", "gpu_memory", f"{_name(gpu)}: {share} of its memory are in use")
        hot, heat = self._settings.gpu_temperature_c, gpu.temperature_c
        if self._has_come(gpu, "gpu_temperature", heat is not None and heat > hot, (heat or 0.0) < hot - COOLER_C):
            yield Alert("warning", "gpu_temperature", f"{_name(gpu)}: {heat:.0f} °C, more than {hot:g}")
        if self._has_come(gpu, "gpu_throttled", gpu.throttled is not None, gpu.throttled is None):
            yield Alert("warning", "gpu_throttled", f"{_name(gpu)} runs slower than it could: {gpu.throttled}")

    def _has_come(self, gpu: GpuReading, cause: str, is_so: bool, is_over: bool) -> bool:
        key = (gpu.uuid, cause)
        if self._lasting[key] >= LASTING:  # told; armed again when it is over
            self._lasting[key] = 0 if is_over else LASTING
            return False
        self._lasting[key] = self._lasting[key] + 1 if is_so else 0
        return self._lasting[key] == LASTING


def _name(gpu: GpuReading) -> str:
    return f"GPU {gpu.index} ({gpu.name})"


def budget_alerts(budget: Budget, use: BudgetUse) -> Iterator[Alert]:
    """Yield an alert for each limit of a budget that is nearly used; always in the same words."""
    # With less than ten trials, the last one alone is more than a tenth.
    budget = phase_budget(budget, "search")
    limits = (
        (budget.trials if (budget.trials or 0) >= 10 else None, use.trials, f"budget of trials ({budget.trials})"),
        (budget.hours, use.hours, f"budget of hours ({budget.hours or 0:g} h)"),
        (budget.gpu_hours, use.gpu_hours, f"budget of GPU-hours ({budget.gpu_hours or 0:g} h)"),
        (budget.env_steps, use.env_steps, f"budget of env steps ({budget.env_steps or 0:,})"),
    )
    for limit, used, words in limits:
        if limit is not None and NEARLY * limit <= used:
            yield Alert("info", "budget", f"{NEARLY:.0%} of the {words} is used", once=True)


def no_improvement(trials: Sequence[TrialView], patience: int) -> Alert | None:
    """Return an alert when too many trials ended since the best one.

    Args:
        trials: All trials. Failed ones do not count: they say nothing about the space.
        patience: How many; 0 for no limit.
    """
    ended = [t for t in trials if t.ended is not None and t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    complete = [t for t in ended if t.state is TrialState.COMPLETE and t.score is not None]
    best = max(complete, key=lambda t: t.score or 0.0, default=None)
    if best is None or best.ended is None or not patience:
        return None
    since = sum(t.ended is not None and t.ended > best.ended for t in ended)
    if since < patience:
        return None
    message = f"{since} trials ended since the best one, trial {best.number} with score {best.score:.4f}"
    return Alert("info", "no_improvement", message, trial=best.number, once=True)


def end_alert(state: str, reason: str, failed: bool, trials: Sequence[TrialView]) -> Alert:
    """Return the alert of a study's end, with its result.

    Args:
        state: ``finished`` or ``stopped``.
        reason: Why.
        failed: It stopped because something is wrong.
        trials: All trials.
    """
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.score is not None]
    best = max(complete, key=lambda t: t.score or 0.0, default=None)
    ended = sum(t.state.is_finished for t in trials)
    result = "none complete" if best is None else f"the best is trial {best.number} with score {best.score:.4f}"
    message = f"{reason}; {ended} of {len(trials)} trials done, {result}"
    return Alert("error" if failed else "info", state, message)
