"""Files that another process reads: whole or not at all.

A file is written beside its final name, synced, and renamed over it, so a reader never sees half of it.
A log grows by whole lines; readers pass over a last line that is still being written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import filelock

from vbot_campaign.errors import FolderBusyError


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut; a no-op where folders cannot be synced (Windows)."""
    with contextlib.suppress(PermissionError, OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_file(path: Path) -> None:
    """Wait until what was appended to a file is on disk; a missing file has nothing."""
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces ``path`` when the block ends without an error.

    Args:
        path: The final name. Its folder is made if missing.

    Yields:
        A binary file. After the block it is flushed, synced and renamed; on an error it is removed
        and ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not through `tempfile`, which makes files that only their owner may read: the user's umask decides who may.
    name = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        with name.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_parts(folder: Path) -> None:
    """Remove what writers that were killed inside `replacing` left in a folder; only where no writer is left."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file's content with UTF-8 text, atomically."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace a file's content with indented JSON, atomically. NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_json_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Replace a log by the given records, atomically."""
    write_text(path, "".join(_line(record) for record in records))


def read_json(path: Path) -> Any:
    """Return a JSON file's content."""
    return json.loads(path.read_text(encoding="utf-8"))


def append_line(path: Path, record: dict[str, Any], *, sync: bool = False) -> None:
    """Append one JSON line in a single write.

    Args:
        path: The log. A last line torn by a crash is closed first, so it stays its own (unreadable) line.
        record: A flat or nested mapping of plain values. Infinities and NaN become null.
        sync: Wait until the line is on disk.
    """
    line = _line(record)
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode("utf-8"))
        file.flush()
        if sync:
            os.fsync(file.fileno())


def _line(record: dict[str, Any]) -> str:
    return json.dumps(_finite(record), ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return all complete JSON lines of a log; a missing file is an empty log."""
    return Tail(path).read()


def read_last_lines(path: Path, max_bytes: int = 1 << 16) -> list[dict[str, Any]]:
    """Return the complete JSON lines in the last ``max_bytes`` of a log; a missing file is an empty log.

    A line cut by the window and a torn last line are left out.
    """
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - max_bytes)
            file.seek(start)
            chunk = file.read(max_bytes)
    except FileNotFoundError:
        return []
    begin = chunk.find(b"\n") + 1 if start > 0 else 0
    lines = chunk[begin : chunk.rfind(b"\n") + 1].splitlines()
    return [record for line in lines if (record := _parse(line)) is not None]


@dataclass
class Tail:
    """Reads a growing JSON-lines file piece by piece.

    The position is a byte offset. When the file was replaced (its inode changed or it got shorter), reading starts
    again at its beginning, so a consumer must be able to see a line twice.
    """

    path: Path
    offset: int = 0
    inode: int = field(default=0, repr=False)

    def read(self) -> list[dict[str, Any]]:
        """Return the records completed since the last call; a torn last line waits for the next call."""
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self.inode or stat.st_size < self.offset:
                    self.inode, self.offset = stat.st_ino, 0
                file.seek(self.offset)
                chunk = file.read()
        except FileNotFoundError:
            return []
        end = chunk.rfind(b"\n") + 1
        self.offset += end
        return [record for line in chunk[:end].splitlines() if (record := _parse(line)) is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    # A line that a crash tore in the middle is closed by the next writer; it is passed over, never an error.
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def sha256(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def hold_lock(path: Path, *, what: str, timeout_s: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock for the block; the system releases it when the process dies, however it dies.

    Args:
        path: The lock file; it stays on disk, only the lock on it counts.
        what: What is locked, for the message.
        timeout_s: Time to wait for it.

    Raises:
        FolderBusyError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o644)  # less the umask: a lock that anyone may take would let anyone stop a study
    lock = filelock.FileLock(path, timeout=timeout_s)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise FolderBusyError(f"{what} is in use by another process (lock {path}). Wait for it or stop it.") from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Tell whether a live process holds the lock ``path``."""
    if not path.exists():
        return False
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        return True
    lock.release()
    return False
