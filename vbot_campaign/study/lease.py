"""Who is at work on a study."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vbot_campaign.study.owner import Owner


@dataclass(frozen=True)
class Lease:
    """Who owns the study."""

    owner: Owner
    since: datetime
    until: datetime
    slots: tuple[str, ...] = ()
    shared: bool = False
    """Whether others may be at work beside it."""

    def is_held(self) -> bool:
        """Tell whether the owner is at work: by its process on this host, by the date elsewhere."""
        return self.owner.is_alive() if self.owner.is_local else datetime.now(UTC) < self.until


def lease_view(lease: Lease | None) -> dict[str, Any] | None:
    """Return host, pid and start of the supervisor that holds a lease, or None."""
    if lease is None or not lease.is_held():
        return None
    return {"host": lease.owner.host, "pid": lease.owner.pid, "started": lease.since}
