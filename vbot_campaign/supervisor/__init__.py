"""The supervisor: runs a study's trials on the slots of this machine or of a cluster. Never loads torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vbot_campaign.supervisor.decisions import Decision
    from vbot_campaign.supervisor.outcome import Observer, Outcome
    from vbot_campaign.supervisor.recovery import ResumePlan
    from vbot_campaign.supervisor.running import (
        create_study,
        plan_resume,
        raise_budget,
        request_study_stop,
        resume_study,
        run_study,
    )
    from vbot_campaign.supervisor.supervisor import Supervisor

__all__ = [
    "Decision",
    "Observer",
    "Outcome",
    "ResumePlan",
    "Supervisor",
    "create_study",
    "plan_resume",
    "raise_budget",
    "request_study_stop",
    "resume_study",
    "run_study",
]

_ELSEWHERE = {
    "Decision": "decisions",
    "Observer": "outcome",
    "Outcome": "outcome",
    "ResumePlan": "recovery",
    "Supervisor": "supervisor",
}


def __getattr__(name: str) -> Any:
    # The node of a cluster that runs a worker needs one small part of this package, not the second that the database
    # takes to load.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'running')}"), name)
