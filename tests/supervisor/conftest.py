"""What studies with toy workers need."""

from __future__ import annotations

import json

import pytest

from vbot_campaign.paths import CampaignPaths


@pytest.fixture
def paths(tmp_path):
    return CampaignPaths(tmp_path / "runs")


@pytest.fixture
def toy(monkeypatch):
    """Set the behaviour of chosen attempts and the speed of all."""

    def plan(behaviours=None, iteration_s=0.001):
        monkeypatch.setenv("TOY_PLAN", json.dumps(behaviours or {}))
        monkeypatch.setenv("TOY_ITERATION_S", str(iteration_s))

    plan()
    return plan
