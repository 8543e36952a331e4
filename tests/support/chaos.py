"""A real toy study, run to its end."""

from __future__ import annotations

import threading
from pathlib import Path

from vbot_campaign.chaos.campaign import ToyCampaign
from vbot_campaign.chaos.lane import Lane, Plan


def run_alone(folder: Path, trials: int = 2) -> ToyCampaign:
    """Run a toy study undisturbed; of its two trials the first completes and the second is pruned."""
    campaign = ToyCampaign(folder, trials)
    lane = Lane(
        0, folder.parent, campaign, Plan(()), undisturbed_finished=threading.Event(), halt=threading.Event(), say=print
    )
    worker = threading.Thread(target=lane.run_undisturbed)  # it keeps its thread to one core
    worker.start()
    worker.join()
    assert campaign.exit_code == 0, campaign.output.read_text()
    return campaign
