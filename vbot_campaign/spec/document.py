"""YAML text with the line of every value, so that a complaint can say where.

Numbers and booleans are read as YAML 1.2 reads them (``1e-3`` is a number, ``yes`` and ``off`` are texts, ``010`` is
ten), plus underscores between digits (``15_000_000``). Tags, merge keys and several documents in a file are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.spec.problems import KeyPath, Problem, show

MAX_VALUES = 20_000  # aliases make a short file expand without bound


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with our own rules for plain scalars."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - replaces YAML 1.1's, which read `no` as false and 1e-3 as a text


_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_PLAIN = {
    "null": (r"~|null|Null|NULL|", [*list("~nN"), ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (rf"[-+]?{_DIGITS}", list("-+0123456789")),
    "float": (
        rf"[-+]?(?:(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
for _name, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"^(?:{_pattern})$"), _first)


@dataclass(frozen=True)
class Document:
    """A parsed file: plain JSON values and where each of them stands."""

    source: str
    """File name for messages."""
    value: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """Line of each key and list item, counted from 1; empty for values that did not come from a text."""
    files: dict[KeyPath, str] = field(default_factory=dict)
    """File of each value that came from another one than `source`, which this one refers to."""

    def place(self, path: KeyPath) -> tuple[str, int | None]:
        """Return file and line of a value, or of the nearest thing around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.files.get(path[:length], self.source), self.lines[path[:length]]
        return self.source, None

    def error(self, problems: list[Problem]) -> SpecError:
        """Return one error with a line for each problem, in the order of the file; ten lines at most."""
        unique = list(dict.fromkeys(problems))
        ordered = sorted(unique, key=self._order)
        lines = [f"{self._where(problem)}{problem}" for problem in ordered]
        if len(lines) > 10:
            lines[9:] = [f"{self._source}and {len(lines) - 9} more problems; put these right first."]
        return SpecError("\n".join(lines))

    @property
    def _source(self) -> str:
        return f"{self.source}: " if self.source else ""

    def _order(self, problem: Problem) -> tuple[bool, str, int]:
        file, line = self.place(problem.path)
        return file != self.source, file, line or 0

    def _where(self, problem: Problem) -> str:
        file, line = self.place(problem.path)
        return f"{file}:{line}: " if line is not None and file else self._source


def read_document(path: Path) -> Document:
    """Read a YAML file whose top is a mapping.

    Raises:
        SpecError: It does not exist, is no text file or not valid YAML.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file.{_nearest_file(path)}") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: is a folder; name a study file in it.{_files_in(path)}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise SpecError(f"{path}:{line}: not UTF-8 text (byte {error.start}); save the file as UTF-8.") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}.") from None
    return parse_document(text, str(path))


def parse_document(text: str, source: str) -> Document:
    """Read YAML text whose top is a mapping.

    Args:
        text: The YAML.
        source: File name for messages.

    Raises:
        SpecError: Not valid YAML, or a key that appears twice.
    """
    node = _compose(text, source)
    if node is None:
        raise SpecError(f"{source}: is empty; it needs at least a name and what to search.")
    builder = _Builder()
    value = builder.build(node, ())
    document = Document(source, value, {(): node.start_mark.line + 1, **builder.lines})
    if not builder.problems and not isinstance(value, dict):
        builder.problems.append(Problem((), f"expected keys with values (a mapping), got {show(value)}"))
    if builder.problems:
        raise document.error(builder.problems)
    return document


def parse_value(text: str) -> Any:
    """Read one value as it would be read in a file: a number, true, false, a text or a list.

    Raises:
        SpecError: Not valid YAML.
    """
    try:
        node = _compose(text, "value")
    except SpecError as error:
        raise SpecError(str(error).split(": ", 1)[1]) from None
    if node is None:
        return None
    builder = _Builder()
    value = builder.build(node, ())
    if builder.problems:
        raise SpecError(str(builder.problems[0]))
    return value


def scalar_spans(text: str, source: str) -> dict[KeyPath, tuple[int, int]]:
    """Return where each single value stands in a YAML text, first letter and the one after the last.

    For edits of a value that leave comments and layout as they are.

    Raises:
        SpecError: Not valid YAML.
    """
    node = _compose(text, source)
    return {} if node is None else dict(_spans(node, ()))


def _spans(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, tuple[int, int]]]:
    if isinstance(node, yaml.ScalarNode):
        yield path, (node.start_mark.index, node.end_mark.index)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _spans(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _spans(item, (*path, index))


# --- reading --------------------------------------------------------------------------------------------------------


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise SpecError(f"{where}: not valid YAML: {_yaml_problem(error, mark)}") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise SpecError(f"{source}:{line}: not valid YAML: a character that text files do not have.") from None
    except RecursionError:
        raise SpecError(f"{source}: not valid YAML: nested too deep.") from None


def _yaml_problem(error: yaml.MarkedYAMLError, mark: yaml.Mark | None) -> str:
    problem = " ".join((error.problem or "cannot be read").split()).replace("'<stream end>'", "the end")
    column = f" at column {mark.column + 1}" if mark else ""
    if "\\t" in problem:
        return f"a tab{column}; indent with spaces."
    if "block" in problem or "simple key" in str(error.context or problem):
        return f"something{column} does not fit what is around it; check the indentation and the ':' after each key."
    if "mapping values are not allowed" in problem:
        return f"a ':' that does not fit{column}; check the indentation, and put texts that hold ': ' in quotes."
    if "document" in problem and "single" in str(error.context or problem):
        return f"a second document{column}; one file holds one study."
    started = f" (in what began on line {error.context_mark.line + 1})" if error.context_mark else ""
    return f"{problem}{column}{started}; check brackets, quotes and indentation."


class _Builder:
    """Turns nodes into plain values and notes where each stood."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        """Return a node's value; what cannot be read is noted and becomes None."""
        self._count += 1
        if self._count > MAX_VALUES:
            if self._count == MAX_VALUES + 1:
                self._refuse(path[:1], f"more than {MAX_VALUES} values; aliases repeat too much")
            return None
        if id(node) in self._open:
            self._refuse(path, "an alias to something that contains it")
            return None
        self._open.add(id(node))
        try:
            return self._value(node, path)
        finally:
            self._open.discard(id(node))

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return self._sequence(node, path)
        if isinstance(node, yaml.ScalarNode) and kind in (*_PLAIN, "str"):
            return self._scalar(kind, node.value, path)
        self._refuse(path, f"the tag {node.tag!r} is not supported; write the plain value")
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name, line = self._key(key_node, path), key_node.start_mark.line + 1
            if name is None:
                continue
            here = (*path, name)
            if name in result:
                first, self.lines[here] = self.lines[here], line
                self._refuse(here, f"appears twice (first on line {first}); keep one of them")
                continue
            self.lines[here] = line
            result[name] = self.build(value_node, here)
        return result

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        text = node.value if isinstance(node, yaml.ScalarNode) else None
        if text is not None and text.isprintable() and node.tag == "tag:yaml.org,2002:str":
            return str(text)
        shown = "a list or mapping" if text is None else ascii(text)
        here = (*path, shown.strip("'"))
        self.lines[here] = node.start_mark.line + 1
        self._refuse(here, f"{shown} cannot be a key; keys are names")
        return None

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self.lines[(*path, index)] = item.start_mark.line + 1
            items.append(self.build(item, (*path, index)))
        return items

    def _scalar(self, kind: str, text: str, path: KeyPath) -> Any:
        if kind == "str":
            # A lone half of a surrogate pair can be written as an escape, but neither stored nor printed.
            if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
                self._refuse(path, "holds an escape that is half a character")
                return None
            return text
        if not re.fullmatch(_PLAIN[kind][0], text):
            self._refuse(path, f"{show(text)} is not what its tag says; write the plain value")
            return None
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        return self._number(kind, text, path)

    def _number(self, kind: str, text: str, path: KeyPath) -> int | float | None:
        digits = text.replace("_", "")
        if len(digits) > 300:
            self._refuse(path, f"a number of {len(digits)} digits is too long")
            return None
        if kind == "int":
            return int(digits)
        special = digits.lower().lstrip("+-") in (".inf", ".nan")
        value = math.inf if special else float(digits)
        if not math.isfinite(value):
            self._refuse(path, f"{text} is not a finite number")
            return None
        # 15e6 is how people write a count: a whole number in exponent form counts as whole.
        return int(value) if "e" in digits.lower() and value.is_integer() and abs(value) < 2**53 else value

    def _refuse(self, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(path, message))


def _nearest_file(path: Path) -> str:
    names = [str(file) for file in sorted(path.parent.glob("*.y*ml"))] if path.parent.is_dir() else []
    return did_you_mean(str(path), names)


def _files_in(folder: Path) -> str:
    names = sorted(file.name for file in folder.glob("*.y*ml"))[:5]
    return f" It holds: {', '.join(names)}." if names else ""
