"""A real undisturbed toy study, made once, and copies of it to plant violations in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chaos import run_alone
from vbot_campaign.chaos import toy_study
from vbot_campaign.chaos.campaign import ToyCampaign
from vbot_campaign.study.study import close_readers


@pytest.fixture(scope="session", autouse=True)
def patient_watchdog() -> Iterator[None]:
    """Take no worker for hung that only waits for a busy machine: it has three times as long for its start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_study, "WATCHDOG_S", 15.0)  # a round in which one freezes takes two to four times that
        yield


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> ToyCampaign:
    """Run a toy study of two trials to its end, with real workers."""
    return run_alone(tmp_path_factory.mktemp("chaos") / "undisturbed")


@pytest.fixture
def copied(undisturbed: ToyCampaign, tmp_path: Path) -> Iterator[ToyCampaign]:
    """Return a copy of it, to be damaged."""
    shutil.copytree(undisturbed.folder, tmp_path / "copy")
    yield ToyCampaign(tmp_path / "copy", undisturbed.trials)
    close_readers()
