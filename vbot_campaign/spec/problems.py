"""Something wrong in what a person wrote, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One complaint: a path in the document and a sentence. Its text is ``path: sentence``."""

    path: KeyPath
    message: str

    def __str__(self) -> str:
        where = dotted(self.path)
        message = self.message if self.message.endswith((".", "?")) else f"{self.message}."
        return f"{where}: {message}" if where else message

    def under(self, *base: str | int) -> Problem:
        """Return the same complaint with ``base`` in front of its path."""
        return Problem((*base, *self.path), self.message)


def dotted(path: KeyPath) -> str:
    """Return a path as people write it: ``constraints[0].skip_if``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def show(value: Any) -> str:
    """Return a value as it would be written in a file, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = f"{value:.10g}"
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(show(item) for item in value)}]"
    else:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
