"""The slots of a study as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from vbot_campaign.watch import units
from vbot_campaign.watch.columns import columns
from vbot_campaign.watch.devices import SlotReading

_HOT_C = 85.0
_FULL = 0.9


def slot_lines(readings: Sequence[SlotReading]) -> list[Text]:
    """Return titles and one line per slot: what it is, how full, busy and hot, and the trial on it."""
    rows = [
        (
            reading.slot,
            "free" if reading.trial is None else str(reading.trial),
            _memory(reading),
            units.percent(reading.utilisation),
            _temperature(reading.temperature_c),
            _device(reading),
        )
        for reading in readings
    ]
    titles = ("slot", "trial", "memory", "load", "temp", "device")
    return columns(titles, rows, right=titles[1:5])


def _device(reading: SlotReading) -> Text:
    if reading.throttled is None:
        return Text(reading.device)
    return Text.assemble(reading.device, (f", slowed: {reading.throttled}", "yellow"))


def _memory(reading: SlotReading) -> Text:
    if reading.memory_used_mb is None or reading.memory_total_mb is None:
        return Text(units.NOTHING)
    share = reading.memory_used_mb / reading.memory_total_mb
    text = f"{reading.memory_used_mb / 1e3:.1f} of {reading.memory_total_mb / 1e3:.0f} GB"
    return Text(text, style="red" if share > _FULL else "")


def _temperature(celsius: float | None) -> Text:
    if celsius is None:
        return Text(units.NOTHING)
    return Text(f"{celsius:.0f} °C", style="red" if celsius >= _HOT_C else "")
