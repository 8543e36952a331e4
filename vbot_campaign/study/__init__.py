"""A study in Optuna's tables and ours: space, sampler, pruner, results. Nothing else imports optuna."""

from __future__ import annotations

from vbot_campaign.study.storage import CampaignStorage, open_storage
from vbot_campaign.study.study import CampaignStudy, load_snapshot, study_names

__all__ = ["CampaignStorage", "CampaignStudy", "load_snapshot", "open_storage", "study_names"]
