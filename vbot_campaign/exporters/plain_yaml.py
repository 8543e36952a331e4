"""YAML that every reader can load: plain values only, no tags, no anchors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import yaml

SCHEMA_VERSION = 1

# Code points that YAML cannot carry even escaped: halves of surrogate pairs.
_SURROGATES = {code: "\ufffd" for code in range(0xD800, 0xE000)}


# libyaml's emitter where PyYAML was built with it: the same text, in a quarter of the time.
_SafeDumper: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_SafeDumper):  # type: ignore[misc, valid-type]
    """The safe dumper without anchors: a value that appears twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value in full."""
        return True


# Line breaks of Unicode: YAML would fold them to spaces outside double quotes, where they are written as escapes.
_ODD_BREAKS = frozenset("\x85\u2028\u2029\ufeff")


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _ODD_BREAKS.intersection(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def plain(value: Any) -> Any:
    """Return a value as str, int, float, bool, None, list or dict.

    Numbers of NumPy become Python's, NaN and infinities become None, times become UTC text ending in ``Z``,
    paths get forward slashes, keys become text. Anything else becomes its text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return {_text(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, PurePath):
        return value.as_posix()
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, without importing NumPy
        return plain(value.tolist())
    return _text(value)


def _text(value: object) -> str:
    return str(value).translate(_SURROGATES)


def utc(time: datetime) -> str:
    """Return an aware time as ``2026-01-31T23:59:59Z``."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def dump(value: Any) -> str:
    """Return a value as block-style YAML, keys in their given order."""
    return yaml.dump(
        plain(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=110
    )


def item(value: Any) -> str:
    """Return one entry of a list: `listing` joins such entries without rendering them again."""
    return dump([value])


def listing(name: str, items: Iterable[str]) -> str:
    """Return ``name:`` followed by entries that `item` made."""
    body = "".join(items)
    return f"{name}:\n{body}" if body else f"{name}: []\n"


def document(study: str, *sections: str) -> str:
    """Return a complete mirror: a comment that says what it is, schema version, study name and the sections."""
    comment = (
        f"# A mirror of study '{study}', made from the database. Delete it freely: "
        f"`vbot-campaign export {study}` makes it again.\n"
    )
    return comment + dump({"schema_version": SCHEMA_VERSION, "study": study}) + "".join(sections)
