"""The main loop of the service: looks at the queue, decides, acts, and tells the others that it lives."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import assert_never

from vbot_campaign.errors import CampaignError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.service import decisions
from vbot_campaign.service.children import Children, ask_to_stop
from vbot_campaign.service.decisions import (
    Action,
    Adopt,
    AskToStop,
    End,
    Ending,
    Item,
    Kill,
    Launch,
    Leave,
    Requeue,
    Rest,
    Share,
    Situation,
    Stop,
    Word,
)
from vbot_campaign.service.shares import in_words
from vbot_campaign.service.standing import standing
from vbot_campaign.service.systemd import ServiceManager
from vbot_campaign.study.submissions import QueueState, Submission, Submissions

POLL_S = 0.5
STARTING_S = 15.0
"""A process whose number was not written down, because the service was killed in between, has shown itself by then."""


@dataclass
class Pulse:
    """How the main loop does, for those who watch it from other threads."""

    started: float
    """Monotonic seconds, as all times here."""
    round: float
    """When it came round last, with the database read."""
    is_draining: bool = False
    restarts: int = 0
    """Processes that were started again by this service."""


class Service:
    """Runs what is in the queue until it is told to stop.

    Args:
        paths: The runs folder.
        queue: Its queue.
        shares: Places for studies that run at the same time, each with its part of the machine.
        manager: Is told how the service does.
        say: Hears every step in words.
        poll_s: Pause between two rounds.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        paths: CampaignPaths,
        queue: Submissions,
        shares: Sequence[Share],
        *,
        manager: ServiceManager,
        say: Callable[[str], None],
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._queue = queue
        self._shares = shares
        self._manager = manager
        self._say = say
        self._poll_s = poll_s
        self._clock = clock
        self._children = Children(paths)
        self._stop = Stop.NO
        self._complaint = ""
        self._asked: set[int] = set()
        """Submissions that were said to be stopped."""
        self.pulse = Pulse(started=clock(), round=clock())

    def hear(self, signal_name: str) -> None:
        """Take note of a signal: the first asks for a drain, the second has the workers killed."""
        self._stop = Stop.DRAIN if self._stop is Stop.NO else Stop.KILL

    def run(self) -> None:
        """Serve until a signal has come and nothing runs any more."""
        self._manager.ready()
        while not self._round():
            time.sleep(self._poll_s)
        self._manager.stopping()
        self._say("nothing runs any more; the next service goes on with what is in the queue")

    def _round(self) -> bool:
        """Look, decide and act once; return whether the service is over."""
        self._manager.alive()
        if self._stop is not Stop.NO and not self.pulse.is_draining:
            self.pulse.is_draining = True
            self._say("draining: studies are stopped with checkpoints and go back to the head of the queue")
        try:
            found = {one.id: one for one in self._queue.open()}
            items = self._items(list(found.values()))
            self._manager.status(_status(items, self._stop))
            for action in decisions.plan(Situation(items, self._shares, self._stop)):
                if isinstance(action, Leave):
                    return True
                self._carry_out(action, found[action.id])
        except (CampaignError, OSError) as error:
            # Full disks and locked databases pass; the studies go on meanwhile.
            self._complain(str(error))
            return False
        self._complaint = ""
        self.pulse.round = self._clock()
        return False

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            self._say(f"error: {text}")

    # --- what is the case ---------------------------------------------------------------------------------------

    def _items(self, found: Sequence[Submission]) -> list[Item]:
        free = len(self._shares) - sum(one.state is QueueState.RUNNING for one in found)
        items = []
        for one in found:
            if one.state is QueueState.RUNNING:
                items.append(self._running(one))
                continue
            # Only those whose turn may be now are looked at more closely.
            is_foreign = free > 0 and standing(self._paths, one.kind, one.name).word is Word.RUNNING
            items.append(Item(one.id, one.state, was_begun=one.started is not None, is_foreign=is_foreign))
            free -= 1
        return items

    def _running(self, one: Submission) -> Item:
        now = datetime.now(UTC)
        item = Item(one.id, one.state, one.wanted, one.share, was_begun=True, deaths=one.deaths)
        if one.launched is None:
            pause = one.not_before - now if one.not_before is not None else timedelta()
            return replace(item, pause_s=pause.total_seconds())
        lived_s = (now - one.launched).total_seconds()
        return replace(item, lived_s=lived_s, ending=self._ending(one, lived_s))

    def _ending(self, one: Submission, lived_s: float) -> Ending | None:
        """Return what is left of its process, or None while somebody is at work on it."""
        if self._children.is_alive(one):
            return None
        code = self._children.exit_code(one)
        if code is None and one.owner is None and lived_s < STARTING_S:
            return None
        # What ends well has said so by its exit code; else only what was said since the process began counts.
        found = standing(self._paths, one.kind, one.name, since=None if code == 0 else one.launched)
        if found.word is Word.RUNNING:
            return None
        return Ending(found.word, found.reason, code, self._children.last_words(one) if code else "")

    # --- what is done -------------------------------------------------------------------------------------------

    def _carry_out(self, action: Action, one: Submission) -> None:
        match action:
            case Launch():
                self._launch(one, action)
            case Adopt():
                now = datetime.now(UTC)
                begun = {"started": one.started or now, "launched": now}
                if self._queue.change(one, only=(), state=QueueState.RUNNING, pid=None, share=[], **begun):
                    self._say(f"{one.name}: somebody is at work on it already; waiting for that")
            case AskToStop():
                if not one.wanted:
                    self._queue.change(one, wanted=action.wanted)
                reason = "cancelled" if action.wanted == "cancel" else "the service was stopped"
                if ask_to_stop(self._paths, one, reason) and one.id not in self._asked:
                    self._asked.add(one.id)
                    self._say(f"{one.name}: asked to stop with checkpoints ({reason})")
            case Kill():
                self._children.interrupt(one)
            case End():
                self._children.forget(one)
                if self._queue.end(one, action.state, action.reason):
                    self._say(f"{one.name}: {action.state}{f': {action.reason}' if action.reason else ''}")
            case Requeue():
                self._children.forget(one)
                if self._queue.requeue(one, action.reason):
                    self._say(f"{one.name}: back at the head of the queue")
            case Rest():
                self._rest(one, action)
            case Leave():
                raise AssertionError("the loop ends before it carries out a Leave")
            case _:
                assert_never(action)

    def _launch(self, one: Submission, action: Launch) -> None:
        self._children.forget(one)
        if not self._queue.claim(one, action.share, again=action.again):
            return  # cancelled in between
        self.pulse.restarts += action.again
        claimed = next((now for now in self._queue.open() if now.id == one.id), None)
        if claimed is None:
            return
        try:
            owner = self._children.start(claimed, action.share)
        except OSError as error:
            self._rest(claimed, Rest(one.id, one.deaths + 1, decisions.FIRST_PAUSE_S, f"cannot be started: {error}"))
            return
        if owner is not None:
            self._queue.change(claimed, pid=owner.pid, pid_started=owner.pid_started)
            part = in_words(action.share)
            how = "resumed" if action.again else "started"
            self._say(f"{one.name}: {how} (pid {owner.pid}{f', {part}' if part else ''})")

    def _rest(self, one: Submission, action: Rest) -> None:
        self._children.forget(one)
        if action.deaths >= decisions.MAX_DEATHS:
            self._queue.end(one, QueueState.FAILED, action.reason)
            return
        self._queue.change(
            one,
            reason=action.reason,
            deaths=action.deaths,
            launched=None,
            not_before=datetime.now(UTC) + timedelta(seconds=action.pause_s),
            pid=None,
        )
        self._say(f"{one.name}: {action.reason}; resumed in {action.pause_s:g} s")


def _status(items: Sequence[Item], stop: Stop) -> str:
    running = sum(item.state is QueueState.RUNNING for item in items)
    text = f"{running} running, {len(items) - running} queued"
    return text if stop is Stop.NO else f"draining: {text}"
