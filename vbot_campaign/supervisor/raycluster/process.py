"""A worker on a Ray cluster as the supervisor sees it, and the copy of its folder here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vbot_campaign.errors import CheckpointCorruptError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.study.owner import Owner
from vbot_campaign.supervisor.process import Exit, Process
from vbot_campaign.supervisor.raycluster.attendant import WARM_START, Launch, Status
from vbot_campaign.supervisor.raycluster.link import Link, Ticket
from vbot_campaign.supervisor.raycluster.pieces import (
    BATCH_BYTES,
    Batch,
    Piece,
    Writer,
    files_of,
    held_of,
    is_log,
    pieces_of,
)

SYNC_S = 0.1
"""Least time between two looks at a worker that has written nothing new."""
ANSWER_S = 2.0
"""Time for a node to answer. After that its worker's silence says nothing of the worker."""
KILL_S = 20.0
"""Time for a node to say that a worker was killed, before it is given up with its node."""
CLEAR_S = 5.0
"""Time for a node to remove the files of an attempt that is over."""
CREATE, HELLO, PUT, BEGIN, SYNC = "create", "hello", "put", "begin", "sync"


class RayProcess(Process):
    """An attempt on a Ray cluster. It has one request under way at a time, and waits for none.

    Args:
        link: To the cluster.
        name: Of the attempt's actor.
        folder: The trial's folder here.
        warm_start: The policy that the trial starts from, or None.
        launch: How to start it; None for one that was started by an earlier supervisor.
        demand: What it needs of a node, as options of Ray.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        folder: TrialPaths,
        warm_start: Path | None,
        launch: Launch | None = None,
        demand: dict[str, Any] | None = None,
    ) -> None:
        self._link = link
        self._name = name
        self._folder = folder
        self._warm_start = warm_start
        self._launch = launch
        self._demand = demand or {}
        self._stage = HELLO if launch is None else CREATE
        self._ticket: Ticket | None = None
        self._method = ""
        self._asked = 0.0
        self._status = Status()
        self._writer = Writer(folder.root)
        self._sending: Iterator[list[Piece]] = iter(())
        self._batch: list[Piece] | None = None
        self._signals: list[str] = []
        self._stop_request = b""
        self._killed: float | None = None
        self._answers = True
        """Whether the node, not just the cluster, answered when it was looked at last."""
        self._is_quiet = False
        self._exit: Exit | None = None

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def owner(self) -> Owner | None:
        """See `Process.owner`."""
        return self._status.owner

    @property
    def words(self) -> str:
        """See `Process.words`."""
        return "on Ray" if self.owner is None else f"on Ray, pid {self.owner.pid} on {self.owner.host}"

    @property
    def is_seen(self) -> bool:
        """See `Process.is_seen`."""
        return self._stage == SYNC and self._link.is_heard and self._answers

    def memory_mb(self) -> float | None:
        """See `Process.memory_mb`."""
        return self._status.memory_mb

    def oom_killed(self) -> bool:
        """See `Process.oom_killed`."""
        return self._status.oom_killed

    # --- what is done to it -------------------------------------------------------------------------------------

    def terminate(self) -> None:
        """See `Process.terminate`; one that was not placed yet is called off."""
        if self._launch is not None and self._stage in (CREATE, HELLO):
            self._give_up("was stopped while it waited for a place on the Ray cluster", clear_s=0.0)
        else:
            self._signals.append("SIGTERM")

    def kill(self) -> None:
        """See `Process.kill`."""
        if self._stage == SYNC or self._launch is None:
            self._signals.append("SIGKILL")
            self._killed = self._killed or time.monotonic()
        else:
            self._give_up("was killed before it had begun", clear_s=0.0)

    def dump_stacks(self) -> bool:
        """See `Process.dump_stacks`."""
        if self._status.prints_stacks:
            self._signals.append("SIGUSR1")
        return self._status.prints_stacks

    def poll(self) -> Exit | None:
        """See `Process.poll`."""
        self._link.pump()
        if self._exit is None and self._ticket is not None and self._ticket.kind is not None:
            ticket, self._ticket = self._ticket, None
            self._answers = ticket.kind == "ok"
            self._take(ticket)
        elif self._ticket is not None and time.monotonic() - self._asked > ANSWER_S:
            self._answers = False
        if self._exit is None and self._ticket is None:
            self._ask()
        if self._exit is None and self._killed is not None and time.monotonic() - self._killed > KILL_S:
            self._give_up("was killed, and its node did not answer")
        return self._exit

    # --- requests and answers -----------------------------------------------------------------------------------

    def _ask(self) -> None:
        if self._stage == CREATE:
            self._ticket = self._link.ask("create", self._name, self._launch, self._demand)
        elif self._stage == HELLO:
            self._call("status")
        elif self._stage == PUT:
            self._send()
        elif self._stage == BEGIN:
            self._call("begin")
        elif self._signals:
            self._call("signal", self._signals[0])
        elif (request := self._new_stop_request()) is not None:
            self._call("put", [request])
        elif not self._is_quiet or time.monotonic() - self._asked >= SYNC_S:
            self._call("sync", self._writer.held)

    def _call(self, method: str, *arguments: Any) -> None:
        self._asked = time.monotonic()
        self._ticket = self._link.ask("call", self._name, method, *arguments)
        self._method = method

    def _send(self) -> None:
        try:
            self._batch = self._batch or next(self._sending, None)
        except OSError as error:
            self._give_up(f"the files of the trial cannot be read: {error}")
            return
        if self._batch is None:
            self._stage = BEGIN
            self._call("begin")
        else:
            self._call("put", self._batch)

    def _take(self, ticket: Ticket) -> None:
        match ticket.kind:
            case "ok":
                with contextlib.suppress(OSError):  # no space here: the node has it all, and is asked again
                    self._go_on(ticket.value)
            case "gone":
                self._exit = Exit(None, f"lost with its place on the Ray cluster: {ticket.value}")
            case "error":
                self._give_up(f"cannot go on at its place on the Ray cluster: {ticket.value}")
            case _:
                # Nobody knows whether it was done: the next look asks again.
                self._stop_request = b""

    def _go_on(self, value: Any) -> None:
        if self._stage == CREATE:
            self._stage = HELLO
        elif self._stage == HELLO:
            self._take_hello(value)
        elif self._stage == PUT:
            self._batch = None
        elif self._stage == BEGIN:
            self._status, self._stage = value, SYNC
        elif self._method == "signal":
            self._signals.pop(0)
        elif self._method == "sync":
            self._take_news(*value)

    def _take_hello(self, status: Status) -> None:
        self._status = status
        if status.owner is None:
            # It has come to its place: what was trained so far goes there.
            self._sending, self._stage = self._batches(), PUT
            return
        self._stage = SYNC
        for name in files_of(self._folder.root):
            self._writer.trust(name, held_of(self._folder.root / name), is_shared=False)

    def _take_news(self, status: Status, batch: Batch) -> None:
        try:
            for piece in batch.pieces:
                self._writer.write(piece)
        except CheckpointCorruptError as error:
            self._give_up(str(error))
            return
        self._writer.forget(batch.names)
        self._status = status
        self._is_quiet = not batch.pieces
        if status.has_ended and not batch.more:
            self._link.ask("destroy", self._name, CLEAR_S)
            self._exit = Exit(status.code)

    def _give_up(self, words: str, clear_s: float = CLEAR_S) -> None:
        self._link.ask("destroy", self._name, clear_s)
        self._exit = Exit(None, words)

    # --- files that go there ------------------------------------------------------------------------------------

    def _batches(self) -> Iterator[list[Piece]]:
        batch: list[Piece] = []
        for piece in self._files():
            if batch and sum(len(other.data) for other in batch) + len(piece.data) > BATCH_BYTES:
                yield batch
                batch = []
            batch.append(piece)
        yield batch

    def _files(self) -> Iterator[Piece]:
        yield from pieces_of(self._folder.spec, self._folder.spec.name)
        if self._warm_start is not None:
            yield from pieces_of(self._warm_start, WARM_START)
        for name in files_of(self._folder.root):
            if self._is_needed(name):
                path = self._folder.root / name
                self._writer.trust(name, held_of(path), is_shared=True)
                yield from pieces_of(path, name)

    def _is_needed(self, name: str) -> bool:
        # Curves and pictures of earlier attempts stay here; each attempt has its own.
        folder, _, file = name.rpartition("/")
        is_kept = folder == self._folder.quarantine.relative_to(self._folder.root).as_posix()
        return not is_kept and (file.endswith(".jsonl") or not is_log(file) or name == self._folder.log.name)

    def _new_stop_request(self) -> Piece | None:
        path = self._folder.stop_request
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if content == self._stop_request:
            return None
        self._stop_request = content
        [piece] = pieces_of(path, path.name)
        return piece
