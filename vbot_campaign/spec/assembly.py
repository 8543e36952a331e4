"""One document made of several files; every value keeps the file and line that it was written in."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from vbot_campaign.spec.document import Document
from vbot_campaign.spec.problems import KeyPath


class Assembly:
    """A document while parts of others are put into it."""

    def __init__(self, document: Document) -> None:
        self.source = document.source
        self.value = copy.deepcopy(document.value)
        self._lines = dict(document.lines)
        self._files = dict(document.files)

    def document(self) -> Document:
        """Return the result."""
        return Document(self.source, self.value, self._lines, self._files)

    def mapping(self, *path: str | int) -> Mapping[str, Any]:
        """Return the mapping at a path; an empty one where there is none."""
        found = value_at(self.value, path)
        return found if isinstance(found, dict) else {}

    def take(self, *path: str | int) -> None:
        """Remove what stands at a path."""
        parent = value_at(self.value, path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
        for place in [place for place in self._lines if place[: len(path)] == path]:
            del self._lines[place]
            self._files.pop(place, None)

    def put(self, path: KeyPath, value: Any, origin: Document, at: KeyPath) -> None:
        """Put a value at a path, under names only, and make the mappings on the way.

        Args:
            path: Where to. Nothing is done where something on the way is no mapping: its own check will say so.
            value: What to put there.
            origin: Document that it is from.
            at: Its path there; its file and line are those of the nearest thing around that path.
        """
        parent = self.value
        for part in path[:-1]:
            parent = parent.setdefault(part, {}) if isinstance(parent, dict) else value_at(parent, (part,))
        if not isinstance(parent, dict):
            return
        self.take(*path)
        parent[path[-1]] = copy.deepcopy(value)
        self._note(path, *origin.place(at))
        for place in origin.lines:
            if len(place) > len(at) and place[: len(at)] == at:
                self._note((*path, *place[len(at) :]), *origin.place(place))

    def _note(self, path: KeyPath, file: str, line: int | None) -> None:
        if line is not None:
            self._lines[path] = line
            if file != self.source:
                self._files[path] = file


def value_at(value: Any, path: KeyPath) -> Any:
    """Return what stands at a path in plain values, or None."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(str(part))
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value
