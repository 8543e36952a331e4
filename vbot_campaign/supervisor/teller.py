"""Tells alerts: to the log, the database and whoever listens outside, each of them once."""

from __future__ import annotations

from vbot_campaign.events import utc_now
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.supervisor.alerts import Alert, alert_key
from vbot_campaign.supervisor.decisions import Decision, DecisionLog
from vbot_campaign.supervisor.notify import Silence


class Teller:
    """The one way of an alert.

    Args:
        study: The study.
        log: ``supervisor.jsonl``, which also remembers what earlier supervisors told.
        notifier: Sends them.
    """

    def __init__(self, study: CampaignStudy, log: DecisionLog, notifier: Silence) -> None:
        self._study = study
        self._log = log
        self._notifier = notifier
        self._told = {
            alert_key(line.get("cause", ""), line.get("trial"), line.get("reason", ""), line.get("told_at", ""))
            for line in log.alerts()
        }

    def tell(self, alert: Alert, attempt: int | None = None) -> bool:
        """Tell an alert; return whether it was news.

        Args:
            alert: What to tell.
            attempt: Attempt of its trial.
        """
        if alert.once and alert.key in self._told:
            return False
        self._told.add(alert.key)
        view = alert.view(alert.told_at or utc_now())
        decision = Decision(
            "alert", alert.message, alert.trial, attempt,
            level=alert.level, cause=alert.cause, advice=alert.advice, told_at=alert.told_at,
        )  # fmt: skip
        self._log.add(decision)
        self._study.add_alert(view)
        self._notifier.send(view)
        return True

    def problem(self) -> Alert | None:
        """Return, once, that alerts cannot be sent."""
        problem = self._notifier.problem()
        return Alert("warning", "notify", problem) if problem else None
