"""A short document of headings, paragraphs, tables and commands, for the terminal and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

WIDTH = 80
_INDENT = "  "
_GAP = "  "
_LEAST = 12
"""Columns that are left to a text that is broken over several lines."""


@dataclass(frozen=True)
class Title:
    """The first line."""

    text: str


@dataclass(frozen=True)
class Heading:
    """The name of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text; its lines are broken where they are too long."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list; each point may run over several lines."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Commands:
    """Lines to copy; never broken."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Columns under titles; all but the first ``left`` ones are numbers and stand to the right.

    The column ``wraps`` is text: it stands to the left, and in the terminal it is broken over several lines where the
    table is wider than the screen.
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    wraps: int | None = None

    def is_left(self, column: int) -> bool:
        """Tell whether a column stands to the left."""
        return column < self.left or column == self.wraps


Block = Title | Heading | Paragraph | Points | Commands | Table


def render_text(blocks: Iterable[Block], width: int = WIDTH) -> str:
    """Return a document for the terminal. Only commands and paths may be wider than ``width``."""
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Heading) and lines:
            lines.append("")
        lines += _text(block, width)
    return "\n".join(line.rstrip() for line in lines)


def render_markdown(blocks: Iterable[Block]) -> str:
    """Return a document in Markdown."""
    return "\n\n".join("\n".join(_markdown(block)) for block in blocks)


def _text(block: Block, width: int) -> list[str]:
    match block:
        case Title(text) | Heading(text):
            return _wrapped(text, width, "", _INDENT)
        case Paragraph(text):
            return [line for part in text.splitlines() for line in _wrapped(part, width, _INDENT, _INDENT) or [""]]
        case Points(items):
            return [line for item in items for line in _wrapped(item, width, f"{_INDENT}- ", f"{_INDENT}  ")]
        case Commands(some):
            return [_INDENT + line for line in some]
        case Table():
            return list(_table(block, width))


def _wrapped(text: str, width: int, first: str, other: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=other, break_long_words=False, break_on_hyphens=False
    )


def _table(table: Table, width: int) -> Iterator[str]:
    rows = [row for row in (table.titles, *table.rows) if any(row)]
    sizes = [max((len(row[i]) for row in rows), default=0) for i in range(len(table.titles))]
    if table.wraps is not None:
        room = width - len(_INDENT) - sum(sizes) - len(_GAP) * (len(sizes) - 1) + sizes[table.wraps]
        sizes[table.wraps] = min(sizes[table.wraps], max(room, _LEAST))
    for row in rows:
        yield from _row(table, row, sizes)


def _row(table: Table, row: Sequence[str], sizes: Sequence[int]) -> Iterator[str]:
    """Yield a row's lines: the second and later ones hold only what the wrapped column has left."""
    lines = [""]
    if table.wraps is not None:
        lines = textwrap.wrap(row[table.wraps], sizes[table.wraps], break_on_hyphens=False) or [""]
    for number, part in enumerate(lines):
        cells = [part if i == table.wraps else cell if number == 0 else "" for i, cell in enumerate(row)]
        sized = enumerate(zip(cells, sizes, strict=True))
        yield _INDENT + _GAP.join(f"{c:<{s}}" if table.is_left(i) else f"{c:>{s}}" for i, (c, s) in sized)


def _markdown(block: Block) -> list[str]:
    match block:
        case Title(text):
            return [f"# {text}"]
        case Heading(text):
            return [f"## {text}"]
        case Paragraph(text):
            return text.splitlines()
        case Points(items):
            return [f"- {item}" for item in items]
        case Commands(some):
            return ["```", *some, "```"]
        case Table(titles, rows):
            dashes = ["---" if block.is_left(i) else "---:" for i in range(len(titles))]
            return [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in (titles, dashes, *rows)]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
