"""The files of a trial's folder in pieces, so that they can grow in two places at once.

The reader's side has the folder in which something is written, the writer's side gets a copy of it. Logs grow: of them
only what is new is sent. Every other file is sent as a whole, and counts once its hash was found right.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vbot_campaign import fs
from vbot_campaign.errors import CheckpointCorruptError
from vbot_campaign.paths import TrialPaths, is_inside

BATCH_BYTES = 4 << 20
"""Most bytes of files in one message."""
_HASH = "sha256:"
_LOGS = (".jsonl", ".log")
_EVENTS = "events.out.tfevents."


@dataclass(frozen=True)
class Held:
    """What the writer's side has of a file."""

    size: int
    """Bytes from its beginning."""
    mark: str
    """Of which file: the `Piece.mark` it came with, or its hash where that is not known."""


@dataclass(frozen=True)
class Piece:
    """Some bytes of a file."""

    name: str
    """Relative to the trial's folder, with forward slashes."""
    mark: str
    """Another one where the file was replaced by another of its name."""
    offset: int
    data: bytes
    size: int
    """Of the whole file at present."""
    sha256: str | None = None
    """Of the whole file, with its last piece; None for a log."""

    @property
    def is_last(self) -> bool:
        """Whether the file is complete with it, as it is at present."""
        return self.offset + len(self.data) == self.size


@dataclass(frozen=True)
class Batch:
    """Pieces that are new to the writer's side, in the order in which they may be written."""

    pieces: tuple[Piece, ...]
    names: frozenset[str]
    """All files that are there."""
    more: bool
    """Whether something is left for the next batch."""


def is_log(name: str) -> bool:
    """Tell whether a file only grows, unless it is replaced."""
    return name.endswith(_LOGS) or name.rpartition("/")[2].startswith(_EVENTS)


def held_of(path: Path) -> Held:
    """Return what a file is that did not come in pieces."""
    content = path.read_bytes()
    return Held(len(content), _HASH + hashlib.sha256(content).hexdigest())


def files_of(folder: Path) -> dict[str, os.stat_result]:
    """Return the files of a trial's folder that belong to the worker, in order of their names."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or name.as_posix() in ("trial.json", "stop.json"):
            continue
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found[name.as_posix()] = status
    return found


class Reader:
    """Reads what is new in a folder.

    Args:
        folder: The trial's folder.
    """

    def __init__(self, folder: TrialPaths) -> None:
        self._root = folder.root
        self._named_last = tuple(self._name(path) for path in (folder.checkpoint_log, folder.result))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def read(self, held: Mapping[str, Held], budget: int = BATCH_BYTES) -> Batch:
        """Return what is new, at most ``budget`` bytes of it.

        A checkpoint goes before the line that names it, and the result goes last.

        Args:
            held: What the writer's side has, by name.
            budget: Most bytes of files.
        """
        # Before the other files are listed: what is named in the log up to here is there by then.
        sizes = self._sizes()
        there = files_of(self._root)
        pieces: list[Piece] = []
        more = False
        for name in sorted(there, key=self._turn):
            if name in self._named_last and (more or name not in sizes):
                more = True
                continue
            limit = sizes[name] if name in self._named_last and is_log(name) else None
            for piece in self._new(name, held.get(name), limit, budget):
                pieces.append(piece)
                budget -= len(piece.data)
                more |= not piece.is_last
            more |= budget <= 0
        return Batch(tuple(pieces), frozenset(there), more)

    def _sizes(self) -> dict[str, int]:
        sizes = {}
        for name in self._named_last:
            with contextlib.suppress(FileNotFoundError):
                sizes[name] = (self._root / name).stat().st_size
        return sizes

    def _turn(self, name: str) -> tuple[int, str]:
        last = self._named_last.index(name) + 2 if name in self._named_last else int(not is_log(name))
        return last, name

    def _new(self, name: str, held: Held | None, limit: int | None, budget: int) -> Iterator[Piece]:
        with contextlib.suppress(FileNotFoundError), (self._root / name).open("rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size if limit is None else min(limit, status.st_size)
            mark = str(status.st_ino) if is_log(name) else f"{status.st_ino}-{status.st_mtime_ns}-{size}"
            start = _start(file.fileno(), held, mark, size)
            if held is not None and held.mark == mark and start == size:
                return
            data = os.pread(file.fileno(), max(0, min(budget, size - start)), start)
            if not data and start < size:
                return  # no room in this batch
            is_last = start + len(data) == size
            whole = _digest(file.fileno(), size) if is_last and not is_log(name) else None
            yield Piece(name, mark, start, data, size, whole)


def _start(file: int, held: Held | None, mark: str, size: int) -> int:
    if held is None or held.size > size:
        return 0
    same = held.mark == mark or held.mark == _HASH + _digest(file, held.size)
    return held.size if same else 0


def _digest(file: int, size: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while offset < size and (data := os.pread(file, min(size - offset, 1 << 20), offset)):
        digest.update(data)
        offset += len(data)
    return digest.hexdigest()


class Writer:
    """Makes a folder the copy of another one, piece by piece. Doing the same twice changes nothing.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._held: dict[str, Held] = {}
        self._parts: dict[str, Held] = {}
        self._known: set[str] = set()
        self._wrong: dict[str, str] = {}
        """Marks of files whose hash was wrong."""

    @property
    def held(self) -> dict[str, Held]:
        """What is here, by name; of a file of which a new version is on its way, that."""
        return {**self._held, **self._parts}

    def trust(self, name: str, held: Held, *, is_shared: bool) -> None:
        """Say that a file is here already.

        Args:
            name: The file.
            held: What is here of it.
            is_shared: Whether the other side has it too, so that it goes when it is removed there.
        """
        self._held[name] = held
        if is_shared:
            self._known.add(name)

    def write(self, piece: Piece) -> None:
        """Write a piece.

        Raises:
            CheckpointCorruptError: The file is complete and not what was read, or its name leads out of the folder.
            OSError: It cannot be written; it may be tried again.
        """
        if not is_inside(piece.name):
            raise CheckpointCorruptError(f"the file name {piece.name!r} leads out of the trial's folder")
        here = self._held.get(piece.name)
        if is_log(piece.name) and here is not None and piece.name not in self._parts and piece.offset == here.size:
            self._append(piece)
        elif piece.offset == piece.size > 0 and not piece.data and here is not None and here.size == piece.size:
            self._held[piece.name] = Held(here.size, piece.mark)  # the same under another mark
        else:
            self._collect(piece)

    def forget(self, names: frozenset[str]) -> None:
        """Remove what was on both sides and is gone on the other.

        Args:
            names: What is there.
        """
        for name in self._known - names:
            (self._root / name).unlink(missing_ok=True)
            self._held.pop(name, None)
        self._known = set(names)

    def _append(self, piece: Piece) -> None:
        path = self._root / piece.name
        if not path.exists():
            self._held.pop(piece.name)  # somebody has removed it: it is asked for again
            return
        with path.open("r+b") as file:
            # What an earlier try wrote beyond the end counts for nothing.
            file.truncate(piece.offset)
            file.seek(piece.offset)
            file.write(piece.data)
            file.flush()
            if path.parent != self._root:
                os.fsync(file.fileno())
        self._held[piece.name] = Held(piece.offset + len(piece.data), piece.mark)

    def _collect(self, piece: Piece) -> None:
        path = self._root / piece.name
        part = path.with_name(f".{path.name}.ray.part")
        have = self._parts.get(piece.name)
        if piece.offset > 0 and (have is None or have.mark != piece.mark or have.size < piece.offset):
            if self._held.get(piece.name) != Held(piece.size, piece.mark):
                # The beginning is missing: it is asked for again.
                self._parts.pop(piece.name, None)
                self._held.pop(piece.name, None)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("r+b" if piece.offset > 0 else "wb") as file:
            file.truncate(piece.offset)
            file.seek(piece.offset)
            file.write(piece.data)
            file.flush()
            os.fsync(file.fileno())
        held = Held(piece.offset + len(piece.data), piece.mark)
        if not piece.is_last:
            self._parts[piece.name] = held
            return
        self._parts.pop(piece.name, None)
        if piece.sha256 is not None and (found := fs.sha256(part)) != piece.sha256:
            self._refuse(piece, part, found)
            return
        os.replace(part, path)
        fs.sync_folder(path.parent)
        self._held[piece.name] = held

    def _refuse(self, piece: Piece, part: Path, found: str) -> None:
        part.unlink()
        self._held.pop(piece.name, None)
        # Once may be a file that was written while it was read, and is read again.
        if self._wrong.get(piece.name) == piece.mark:
            raise CheckpointCorruptError(
                f"{piece.name}: its SHA-256 is {found[:12]}… after the transfer, expected {str(piece.sha256)[:12]}…"
            )
        self._wrong[piece.name] = piece.mark


def pieces_of(path: Path, name: str) -> Iterator[Piece]:
    """Yield a file that nobody writes to, in pieces with its hash.

    Args:
        path: The file.
        name: What it is called on the other side.
    """
    size, digest = path.stat().st_size, fs.sha256(path)
    with path.open("rb") as file:
        while True:
            offset = file.tell()
            piece = Piece(name, digest, offset, file.read(BATCH_BYTES), size, digest)
            yield piece
            if piece.is_last or not piece.data:
                return
