"""One service for each runs folder, and who it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from vbot_campaign import fs
from vbot_campaign.errors import FolderBusyError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.owner import Owner


@contextlib.contextmanager
def alone(paths: CampaignPaths) -> Iterator[None]:
    """Be the one service of a runs folder for the block; the system lets go of it when the process dies.

    Raises:
        FolderBusyError: There is one already; the message names it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(fs.hold_lock(paths.service.lock, what="the queue"))
        except FolderBusyError:
            raise FolderBusyError(
                f"{paths.root}: {_who(paths)} serves the queue of this runs folder already. Submit to it with "
                "`vbot-campaign submit FILE`; a SIGTERM has it stop its studies with checkpoints and end."
            ) from None
        since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        fs.write_json(paths.service.owner, {"v": 1, **asdict(Owner.here()), "since": since})
        yield


def is_served(paths: CampaignPaths) -> bool:
    """Tell whether a service is at work on a runs folder."""
    return fs.is_locked(paths.service.lock)


def _who(paths: CampaignPaths) -> str:
    try:
        owner: dict[str, Any] = fs.read_json(paths.service.owner)
        return f"the process with pid {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it is just about to write down who it is
