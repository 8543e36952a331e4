"""What studies with toy workers need."""

from __future__ import annotations

import json

import pytest

from tests.support.toy_pace import Hold
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.supervisor.notify import Notifier


@pytest.fixture(autouse=True)
def patient_notifier(monkeypatch):
    """Wait for the last messages on a busy machine too."""
    monkeypatch.setattr(Notifier.close, "__defaults__", (240.0,))


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


@pytest.fixture
def hold(monkeypatch, tmp_path):
    """Hold toy workers where they have written their first checkpoint."""
    return Hold(monkeypatch, tmp_path / "hold", at=5)
