"""Rows of cells as lines of text, one line each however narrow the screen is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.text import Text

_GAP = "  "


def line(*parts: str | Text | tuple[str, str], style: str = "") -> Text:
    """Return one line of text, which is cut off where the screen ends."""
    return Text.assemble(*parts, style=style, no_wrap=True, overflow="ellipsis")


def columns(titles: Sequence[str], rows: Sequence[Sequence[str | Text]], *, right: Collection[str] = ()) -> list[Text]:
    """Return a line of titles and a line per row, with cells below one another.

    Args:
        titles: One per column.
        rows: Cells; every row has one per column.
        right: Titles of the columns that stand to the right.
    """
    cells = [[Text(title, style="bright_black") for title in titles]]
    cells += [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    widths = [max(row[i].cell_len for row in cells) for i in range(len(titles))]
    return [_joined(row, widths, titles, right) for row in cells]


def _joined(row: Sequence[Text], widths: Sequence[int], titles: Sequence[str], right: Collection[str]) -> Text:
    joined = line()
    for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
        blank = " " * (width - cell.cell_len)
        joined.append(_GAP if i else "")
        joined.append_text(Text(blank) + cell if titles[i] in right else cell + Text(blank))
    joined.rstrip()
    return joined
