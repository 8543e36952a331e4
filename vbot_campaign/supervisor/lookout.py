"""Keeps an eye on what no worker tells of: the GPUs and the budget."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType

from vbot_campaign.supervisor.alerts import GpuRules, budget_alerts
from vbot_campaign.supervisor.budget import BudgetUse
from vbot_campaign.supervisor.gpus import GpuReading, read_gpus
from vbot_campaign.supervisor.slots import Slot
from vbot_campaign.supervisor.state import Context

POLL_S = 10.0
"""Time between two readings of the GPUs."""


class GpuReader:
    """Reads the GPUs from a thread of its own, because a driver in trouble answers late or never."""

    def __init__(self) -> None:
        self._readings: list[GpuReading] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gpus", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more; a reading that hangs is left behind."""
        self._stop.set()
        self._thread.join(1.0)

    def news(self) -> list[GpuReading]:
        """Return readings that were not returned before; none where there are none."""
        readings, self._readings = self._readings, None
        return readings or []

    def _work(self) -> None:
        while not self._stop.is_set():
            self._readings = read_gpus()
            self._stop.wait(POLL_S)


class Lookout:
    """Looks at GPUs and budget in every round of the loop, and tells what it finds.

    Args:
        context: What is worked on.
        slots: Where workers run; GPUs of others are none of our business.
    """

    def __init__(self, context: Context, slots: Iterable[Slot]) -> None:
        self._context = context
        uuids = {slot.visible_devices for slot in slots if slot.visible_devices}
        self._rules = GpuRules(context.study.spec.alerts, uuids)
        self._reader = GpuReader() if uuids else None

    def __enter__(self) -> Lookout:
        """Begin to read GPUs, where there are any."""
        if self._reader is not None:
            self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.stop()

    def look(self, use: BudgetUse) -> None:
        """Tell what is new about GPUs and budget, and about messages that could not be sent.

        Args:
            use: What was spent so far.
        """
        spec = self._context.study.spec
        # A study of queued trials alone ends with its queue, whatever its budget of trials.
        queued = spec.sampler.name == "queue"
        for alert in budget_alerts(spec.budget.model_copy(update={"trials": None}) if queued else spec.budget, use):
            self._context.alert(alert)
        if self._reader is not None and (readings := self._reader.news()):
            for alert in self._rules.look(readings):
                self._context.alert(alert)
        if (problem := self._context.teller.problem()) is not None:
            self._context.alert(problem)
