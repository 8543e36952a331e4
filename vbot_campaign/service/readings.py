"""What the pages of the service show: studies and the queue, read while the main loop goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from vbot_campaign.errors import CampaignError, StudyError
from vbot_campaign.exporters import plain_yaml
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.reading import StudyReader, read_names, read_snapshot
from vbot_campaign.study.snapshot import StudySnapshot
from vbot_campaign.study.submissions import QueueState, Submission, Submissions
from vbot_campaign.watch.status_json import status_json

PATIENCE_S = 60.0
FRESH_S = 1.0
"""So old may a picture of all studies be: several monitors that ask at once cost one reading."""
QUEUE_SCHEMA = 1

T = TypeVar("T")


class Readings:
    """Reads the database for any number of threads, one reading after the other.

    A reader of a study belongs to one thread and remembers the trials that have ended; one thread that all share keeps
    a large study cheap however often it is asked for.

    Args:
        paths: The runs folder.
        queue: Its queue.
    """

    def __init__(self, paths: CampaignPaths, queue: Submissions) -> None:
        self._paths = paths
        self._queue = queue
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="readings")
        self._readers: dict[str, StudyReader] = {}
        self._read_at = float("-inf")
        self._snapshots: list[StudySnapshot] = []

    def snapshots(self) -> list[StudySnapshot]:
        """Return a picture of every study, by name.

        Raises:
            CampaignError: The database cannot be read.
        """
        return self._in_thread(self._all)

    def status(self, name: str) -> dict[str, Any]:
        """Return what `status --json` prints.

        Raises:
            StudyNotFoundError: No study of that name.
            CampaignError: The database cannot be read.
        """
        return self._in_thread(lambda: self._status(name))

    def submissions(self) -> list[Submission]:
        """Return everything that was ever submitted, the oldest first.

        Raises:
            CampaignError: The database cannot be read.
        """
        return self._in_thread(self._queue.all)

    def close(self) -> None:
        """Close all readers."""
        with contextlib.suppress(CampaignError):  # it is stuck in a database that does not answer
            self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return self._thread.submit(work).result(PATIENCE_S)
        except TimeoutError:
            raise CampaignError(f"the database has not answered for {PATIENCE_S:g} s.") from None

    def _all(self) -> list[StudySnapshot]:
        if time.monotonic() - self._read_at < FRESH_S:
            return self._snapshots
        names = read_names(self._paths)
        for gone in self._readers.keys() - set(names):
            self._readers.pop(gone).close()
        found = []
        for name in names:
            reader = self._readers.setdefault(name, StudyReader(self._paths, name))
            with contextlib.suppress(StudyError):  # it is being made, or not of this program
                found.append(reader.snapshot())
        self._snapshots, self._read_at = found, time.monotonic()
        return found

    def _status(self, name: str) -> dict[str, Any]:
        reader = self._readers.get(name)
        snapshot = read_snapshot(self._paths, name) if reader is None else reader.snapshot()
        return status_json(self._paths, snapshot)

    def _close(self) -> None:
        while self._readers:
            self._readers.popitem()[1].close()


@dataclass(frozen=True)
class QueueLine:
    """One submission as people and scripts see it."""

    position: int | None
    """1 for the next one; None for those that do not wait."""
    name: str
    kind: str
    priority: int
    state: str
    submitted: str
    started: str | None
    ended: str | None
    reason: str
    restarts: int
    pid: int | None
    """Of the process that runs it."""


def queue_lines(submissions: list[Submission]) -> list[QueueLine]:
    """Return the queue from its head: what runs, what waits in its order, then what has ended, the newest first."""
    running = [one for one in submissions if one.state is QueueState.RUNNING]
    queued = sorted((one for one in submissions if one.state is QueueState.QUEUED), key=lambda one: one.turn)
    ended = sorted(
        (one for one in submissions if not one.state.is_open), key=lambda one: one.ended or one.submitted, reverse=True
    )
    places = {one.id: place for place, one in enumerate(queued, start=1)}
    return [_line(one, places.get(one.id)) for one in (*running, *queued, *ended)]


def queue_json(submissions: list[Submission]) -> dict[str, Any]:
    """Return the queue as plain values."""
    return {"schema_version": QUEUE_SCHEMA, "queue": [vars(line) for line in queue_lines(submissions)]}


def _line(one: Submission, position: int | None) -> QueueLine:
    asked = {"cancel": "is being cancelled", "requeue": "is being stopped", "": ""}[one.wanted]
    running = one.state is QueueState.RUNNING and one.launched is not None
    return QueueLine(
        position=position,
        name=one.name,
        kind=one.kind,
        priority=one.priority,
        state=one.state.value,
        submitted=plain_yaml.utc(one.submitted),
        started=plain_yaml.utc(one.started) if one.started else None,
        ended=plain_yaml.utc(one.ended) if one.ended else None,
        reason=asked or one.reason,
        restarts=one.restarts,
        pid=one.owner.pid if running and one.owner is not None else None,
    )
