"""A study in Optuna's tables and ours: space, sampler, pruner, results. Nothing else imports optuna."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vbot_campaign.study.storage import CampaignStorage, open_storage
    from vbot_campaign.study.study import CampaignStudy, load_snapshot, study_names

__all__ = ["CampaignStorage", "CampaignStudy", "load_snapshot", "open_storage", "study_names"]

_STORAGE = ("CampaignStorage", "open_storage")


def __getattr__(name: str) -> Any:
    # Optuna and SQLAlchemy take most of a second to load. Who needs a snapshot's classes only, as a screen does, does
    # not wait for them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'storage' if name in _STORAGE else 'study'}"), name)
