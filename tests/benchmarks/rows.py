"""Figures as a table of about 80 columns."""

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
    """What it must at least be."""
    ceiling: float | None = None
    """What it must stay below."""
    note: str = ""

    @property
    def limit(self) -> str | None:
        """The promise that the figure is held to, in words; None where there is none."""
        if self.floor is not None:
            return f"at least {self.floor:,.0f}"
        return f"below {self.ceiling:,g}" if self.ceiling is not None else None

    @property
    def holds(self) -> bool:
        """Whether the figure keeps its promise."""
        above = self.floor is None or self.value >= self.floor
        return above and (self.ceiling is None or self.value < self.ceiling)


def table(rows: list[Row]) -> str:
    """Return the rows below each other."""
    return "\n".join(_line(row) for row in rows)


def verdict(rows: list[Row]) -> str:
    """Return one line on all promises, and one for each that is broken."""
    held_to = [row for row in rows if row.limit is not None]
    broken = [row for row in held_to if not row.holds]
    lines = [f"{len(held_to) - len(broken)} of {len(held_to)} floors hold."]
    lines += [f"FAILS: {row.name} is {row.value:,.{row.digits}f} {row.unit}, promised {row.limit}." for row in broken]
    return "\n".join(lines)


def _line(row: Row) -> str:
    note = row.note
    if row.limit is not None:
        note = f"{row.limit}: {'holds' if row.holds else 'FAILS'} {note}"
    return f"  {row.name:<30} {row.value:>10,.{row.digits}f} {row.unit:<8} {note}".rstrip()
