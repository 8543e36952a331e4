"""Sends alerts to the addresses in ``VBOT_CAMPAIGN_NOTIFY``, through apprise, from a thread of its own.

The addresses hold secrets. They are read from the environment only, workers do not inherit them, and no message, log or
file ever repeats one: where one makes trouble it is named by its place in the variable.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vbot_campaign.errors import NotificationError
from vbot_campaign.spec.study import NotifySettings
from vbot_campaign.study.snapshot import AlertView
from vbot_campaign.supervisor.alerts import LEVELS

VARIABLE = "VBOT_CAMPAIGN_NOTIFY"

ENDS = ("finished", "stopped")
"""Causes that are sent whatever their level, and however much was sent before."""
HOUR_S = 3600.0
QUEUED = 100
"""Messages that may wait for a slow address; what is more is dropped and counted."""
FLUSH_S = 10.0
"""Time for the last messages at the end of a study."""
IDLE_S = 60.0
"""How often is looked whether a summary is due when there is nothing to send."""

_TYPES = {"info": "info", "warning": "warning", "error": "failure"}


class Throttle:
    """Decides what is sent, and remembers what was not.

    The same thing is sent once in an hour, and at most ``per_hour`` messages are.
    """

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._sent: deque[float] = deque()
        self._last: dict[Hashable, float] = {}
        self._held: Counter[str] = Counter()
        self._held_since = 0.0

    def admits(self, cause: str, trial: int | None, now: float) -> bool:
        """Tell whether a message may go, and count it either way.

        Args:
            cause: Of the alert.
            trial: Of the alert.
            now: Monotonic seconds.
        """
        while self._sent and now - self._sent[0] >= HOUR_S:
            self._sent.popleft()
        last = self._last.get((cause, trial))
        repeats = last is not None and now - last < HOUR_S
        if cause not in ENDS and (repeats or len(self._sent) >= self._per_hour):
            self.hold(cause, now)
            return False
        self._sent.append(now)
        self._last[cause, trial] = now
        return True

    def hold(self, cause: str, now: float) -> None:
        """Count a message that does not go."""
        if not self._held:
            self._held_since = now
        self._held[cause] += 1

    def summary(self, now: float, *, at_least_s: float = 0.0) -> str:
        """Return what was held back and forget it; empty where there is nothing or it is too young.

        Args:
            now: Monotonic seconds.
            at_least_s: Age of what was held back first.
        """
        if not self._held or now - self._held_since < at_least_s:
            return ""
        words = ", ".join(f"{count} {cause}" for cause, count in sorted(self._held.items()))
        self._held.clear()
        return f"held back: {words}"


class Addresses:
    """The addresses that apprise understands.

    Args:
        urls: Apprise URLs.

    Raises:
        NotificationError: apprise is not installed.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        try:
            import apprise
        except ImportError:
            raise NotificationError(
                f"{VARIABLE} is set, but apprise, which sends messages, is not installed: "
                "pip install 'vbot-campaign[notify]'"
            ) from None
        # It would write addresses to the terminal; what went wrong is said here, without them.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        asset = apprise.AppriseAsset(app_id="vbot-campaign", app_desc="vbot-campaign", app_url="")
        self._count = len(urls)
        self._services: dict[int, Any] = {}
        for place, url in enumerate(urls, start=1):
            service = apprise.Apprise(asset=asset)
            with contextlib.suppress(Exception):  # its text could repeat the address
                if service.add(url):
                    self._services[place] = service

    @property
    def not_understood(self) -> str:
        """Which ones apprise cannot read, in words; empty when it can read all."""
        bad = [place for place in range(1, self._count + 1) if place not in self._services]
        hint = "they look like mailto://… or tgram://…, see https://github.com/caronc/apprise/wiki"
        return f"{self._places(bad)} of {VARIABLE} cannot be read by apprise; {hint}" if bad else ""

    def send(self, title: str, body: str, level: str) -> str:
        """Send a message to all, one after the other; return in words which did not take it."""
        failed = [place for place, service in self._services.items() if not _sent(service, title, body, level)]
        return f"{self._places(failed)} of {VARIABLE} did not take a message" if failed else ""

    def _places(self, places: Sequence[int]) -> str:
        numbers = ", ".join(map(str, places))
        return f"address {numbers} (of {self._count})" if len(places) == 1 else f"addresses {numbers}"


def _sent(service: Any, title: str, body: str, level: str) -> bool:
    try:
        return bool(service.notify(title=title, body=body, notify_type=_TYPES[level]))
    except Exception:
        return False


@dataclass(frozen=True)
class _Message:
    title: str
    body: str
    level: str
    cause: str
    trial: int | None


class Silence:
    """Sends nothing."""

    def send(self, alert: AlertView) -> None:
        """Drop the alert."""

    def problem(self) -> str:
        """Return nothing: nothing can go wrong."""
        return ""

    def close(self, timeout_s: float = FLUSH_S) -> None:
        """Have nothing to do."""


class Notifier(Silence):
    """Sends alerts about one study; what goes wrong with that is told once and disturbs nothing.

    Args:
        urls: Apprise URLs.
        study: Its name, for the titles.
        settings: What is sent.
        clock: Monotonic seconds.
    """

    def __init__(
        self, urls: Sequence[str], study: str, settings: NotifySettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._urls = tuple(urls)
        self._where = f"{study} on {socket.gethostname()}"
        self._least = LEVELS.index(settings.level)
        self._throttle = Throttle(settings.per_hour)
        self._clock = clock
        self._queue: queue.Queue[_Message | None] = queue.Queue(QUEUED)
        self._problem = ""
        self._told = self._closed = False
        self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
        self._thread.start()

    def send(self, alert: AlertView) -> None:
        """Put an alert in the queue if its level asks for it; never waits."""
        level = alert.level if alert.level in LEVELS else "warning"
        if LEVELS.index(level) < self._least and alert.cause not in ENDS:
            return
        about = "" if alert.trial is None else f"trial {alert.trial}: "
        body = f"{about}{alert.message}" + (f"\n→ {alert.advice}" if alert.advice else "")
        message = _Message(f"{self._where}: {alert.cause}", body, level, alert.cause, alert.trial)
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._throttle.hold(alert.cause, self._clock())

    def problem(self) -> str:
        """Return what went wrong first, one time; empty where nothing did."""
        if self._told or not self._problem:
            return ""
        self._told = True
        return self._problem

    def close(self, timeout_s: float = FLUSH_S) -> None:
        """Send what is left and the summary, and stop waiting for it after a time."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout_s)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._problem = self._problem or f"the last messages were not sent within {timeout_s:g} s"

    def _work(self) -> None:
        try:
            addresses = Addresses(self._urls)
        except NotificationError as error:
            self._problem = str(error)
            return
        self._problem = addresses.not_understood
        # The None that wakes it at the end finds no place in a full queue.
        while not (self._closed and self._queue.empty()):
            try:
                message = self._queue.get(timeout=IDLE_S)
            except queue.Empty:
                self._send_summary(addresses, HOUR_S)
                continue
            if message is not None and self._throttle.admits(message.cause, message.trial, self._clock()):
                self._send(addresses, message.title, message.body, message.level)
        self._send_summary(addresses, 0.0)

    def _send_summary(self, addresses: Addresses, at_least_s: float) -> None:
        if summary := self._throttle.summary(self._clock(), at_least_s=at_least_s):
            self._send(addresses, f"{self._where}: summary", summary, "info")

    def _send(self, addresses: Addresses, title: str, body: str, level: str) -> None:
        failed = addresses.send(title, body, level)
        self._problem = self._problem or failed


def addresses_in(environ: Mapping[str, str]) -> list[str]:
    """Return the addresses that the environment names, separated by spaces or lines."""
    return environ.get(VARIABLE, "").split()


def notifier_for(study: str, settings: NotifySettings, environ: Mapping[str, str] | None = None) -> Silence:
    """Return what sends a study's alerts: to nobody where the environment names no address."""
    urls = addresses_in(os.environ if environ is None else environ)
    return Notifier(urls, study, settings) if urls else Silence()


def send_test(environ: Mapping[str, str] | None = None) -> int:
    """Send a test message to every address; return how many there are.

    Raises:
        NotificationError: There is none, apprise is not installed, or one of them cannot be read or did not take it.
    """
    urls = addresses_in(os.environ if environ is None else environ)
    if not urls:
        raise NotificationError(
            f"{VARIABLE} is not set: give it one or more apprise addresses, such as mailto://… or tgram://…"
        )
    addresses = Addresses(urls)
    title = f"vbot-campaign on {socket.gethostname()}: test"
    problems = [addresses.send(title, "This is what an alert looks like.", "info"), addresses.not_understood]
    if words := "; ".join(filter(None, problems)):
        raise NotificationError(words)
    return len(urls)
