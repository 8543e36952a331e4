"""What campaigns with toy workers need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.toy_campaign import ToySettings, toy_programs
from vbot_campaign.paths import CampaignPaths


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    return CampaignPaths(tmp_path / "runs")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ToySettings]:
    """Set the success rates at the gates and the speed of the workers; afterwards tell what was evaluated."""

    def apply(gates: dict[str, list[float]], iteration_s: float) -> None:
        monkeypatch.setenv("TOY_GATE", json.dumps(gates))
        monkeypatch.setenv("TOY_ITERATION_S", str(iteration_s))

    monkeypatch.setenv("TOY_GATE_LOG", str(tmp_path / "gate.log"))
    settings = ToySettings(apply, tmp_path / "gate.log")
    settings()
    with toy_programs():
        yield settings
