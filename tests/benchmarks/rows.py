"""Figures as a table of at most 80 columns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure."""

    name: str
    value: float
    unit: str
    digits: int = 0
    floor: float | None = None
    """What it must at least be; its ratio to that is shown."""
    note: str = ""


def table(rows: list[Row]) -> str:
    """Return the rows below each other."""
    return "\n".join(_line(row) for row in rows)


def _line(row: Row) -> str:
    note = row.note
    if row.floor is not None:
        note = f"{row.value / row.floor:.2f} of the floor {row.floor:,.0f} {note}"
    return f"  {row.name:<30} {row.value:>10,.{row.digits}f} {row.unit:<12} {note}".rstrip()
