"""A study in one tar file: the database, what the workers said, and the checkpoints that are worth keeping.

::

    manifest.json              version, study, when, and the sha256 and bytes of every other member; the last member
    campaign.db                the whole database, other studies too
    study/…                    what lies in ``runs/<study>/``, less TensorBoard, worker logs and older checkpoints

It is not packed: policies hardly shrink, and a reader can trust the sizes it says. Made while a supervisor runs, it has
the database of one instant and files that are no older; a restore, like a resume, reads from them what came later.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vbot_campaign import __version__, fs
from vbot_campaign.errors import StorageError
from vbot_campaign.events import utc_now
from vbot_campaign.paths import CampaignPaths, StudyPaths, TrialPaths, name_problem, timestamp
from vbot_campaign.study import transfer
from vbot_campaign.study.backup import copy_database
from vbot_campaign.study.postgres import one_instant
from vbot_campaign.study.snapshot import StudySnapshot, TrialView
from vbot_campaign.study.storage import open_storage, storage_errors
from vbot_campaign.study.study import CampaignStudy, load_snapshot
from vbot_campaign.study.tables import is_inside

VERSION = 1
MANIFEST = "manifest.json"
DATABASE = "campaign.db"
STUDY = "study"
RESUME_POINTS = 2
"""Resume points of an unfinished trial that are taken along: the newest, and the one before in case it is damaged."""
_TRIES = 20
_PAUSE_S = 0.25


@dataclass(frozen=True)
class Manifest:
    """What an archive holds, according to itself."""

    study: str
    created: str
    """UTC."""
    members: dict[str, dict[str, Any]]
    """``sha256`` and ``bytes`` by name."""


def write_archive(paths: CampaignPaths, name: str, out: Path | None = None) -> Path:
    """Write a study to a tar file and check it.

    Args:
        paths: The runs folder. A supervisor may be at work in it.
        name: The study.
        out: The file; by default one named by study and time under ``runs/backups/``.

    Returns:
        The file.

    Raises:
        StudyNotFoundError: No study of that name.
        StorageError: The file is there already, cannot be written, or is not what was written.
    """
    load_snapshot(paths, name)
    out = out or paths.backups / f"{name}_{timestamp()}.tar"
    if out.exists():
        raise StorageError(f"{out}: is there already; nothing was written. Name another file with --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".backup.", dir=out.parent) as folder:
            database = Path(folder) / DATABASE
            copy_out(paths, name, database)
            with fs.replacing(out) as file:
                _write(file, name, _members(paths.study(name), _read_copy(database, name), database))
    except OSError as error:
        raise StorageError(
            f"{out}: cannot be written: {error.strerror or error}. Name another file with --out."
        ) from None
    try:
        check_archive(out)
    except StorageError:
        out.unlink(missing_ok=True)
        raise
    return out


def copy_out(paths: CampaignPaths, name: str, database: Path) -> None:
    """Write an SQLite file that holds a study, as it is at one instant.

    Args:
        paths: The runs folder. A supervisor may be at work in it.
        name: The study.
        database: The file. Where the study is in such a file itself, the copy holds all studies of that.

    Raises:
        StorageError: It cannot be read or written.
    """
    if paths.storage is None:
        copy_database(paths.database, database)
        return
    source = open_storage(paths, read_only=True)
    try:
        with (
            storage_errors(source.url),
            one_instant(source.engine),
            tempfile.TemporaryDirectory(prefix=".copy.", dir=database.parent) as folder,
        ):
            file = Path(folder) / DATABASE
            target = open_storage(f"sqlite:///{file.absolute().as_posix()}")
            try:
                transfer.copy_study(source, target, name)
            finally:
                target.close()
            copy_database(file, database)
    finally:
        source.close()


def check_archive(file: Path) -> Manifest:
    """Read an archive in full and compare it with its manifest.

    Raises:
        StorageError: It is no archive of this program, damaged, incomplete, or holds what could be written elsewhere.
    """
    with open_tar(file) as tar:
        members = _members_of(file, tar)
        for member in members:
            _check_member(file, member)
        names = [member.name for member in members]
        manifest = _read_manifest(file, tar, names)
        if sorted(names) != sorted([*manifest.members, MANIFEST]):
            raise _damaged(file, "its members are not those of its manifest")
        for member in members:
            if member.name != MANIFEST and _digest(tar, member) != manifest.members[member.name]["sha256"]:
                raise _damaged(file, f"{member.name} is not what was written")
    return manifest


def open_tar(file: Path) -> tarfile.TarFile:
    """Open an archive that is not packed, for reading.

    Raises:
        StorageError: It is no tar file, or packed.
    """
    try:
        return tarfile.open(file, "r:")
    except tarfile.TarError:
        raise StorageError(
            f"{file}: is no backup of this program; name a .tar of `backup`, or a .db of runs/backups/auto/."
        ) from None


# --- writing --------------------------------------------------------------------------------------------------------


def _read_copy(database: Path, name: str) -> StudySnapshot:
    storage = open_storage(f"sqlite:///{database.absolute().as_posix()}", read_only=True)
    try:
        return CampaignStudy.open(storage, name).snapshot()
    finally:
        storage.close()


def _members(study: StudyPaths, snapshot: StudySnapshot, database: Path) -> Iterator[tuple[str, bytes]]:
    yield DATABASE, database.read_bytes()
    yield from _files(study.root, _study_files(study))
    for trial in snapshot.trials:
        if trial.folder is not None:
            folder = TrialPaths(study.root / trial.folder)
            yield from _files(study.root, [folder.spec, folder.meta, folder.path_plot, folder.rollout, folder.result])
            yield from _logs(study.root, [folder.metrics])
            yield from _checkpoints(study.root, folder, trial)


def _study_files(study: StudyPaths) -> list[Path]:
    files = [study.automl_state, study.registry, study.index, study.report, study.decisions, study.warm_start]
    folders = (study.config(0).parent, study.experiment(0).parent, study.import_log.parent)
    return [*files, *(path for folder in folders for path in sorted(folder.glob("[!.]*")) if path.is_file())]


def _files(root: Path, files: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in files:
        try:
            yield _name(root, path), path.read_bytes()
        except FileNotFoundError:
            continue


def _logs(root: Path, files: list[Path]) -> Iterator[tuple[str, bytes]]:
    # A log grows meanwhile, so its last line may be half there.
    for name, content in _files(root, files):
        yield name, content[: content.rfind(b"\n") + 1]


def _checkpoints(root: Path, folder: TrialPaths, trial: TrialView) -> Iterator[tuple[str, bytes]]:
    """Yield a trial's checkpoints and the log that names them.

    A live worker replaces and removes files and says so in the log a moment later: what does not fit together is read
    again until it does.
    """
    for attempt in range(_TRIES):
        log = next(_logs(root, [folder.checkpoint_log]), ("", b""))
        if not log[1]:
            return
        lines = _worth_keeping(log[1], trial)
        found = {str(line["file"]): _content(folder.checkpoints / str(line["file"])) for line in lines}
        fits = [line for line in lines if _sha256(found[str(line["file"])]) == line["sha256"]]
        if len(fits) == len(lines) or attempt == _TRIES - 1:
            break
        time.sleep(_PAUSE_S)
    yield log
    yield from ((_name(root, folder.checkpoints / str(line["file"])), found[str(line["file"])]) for line in fits)


def _worth_keeping(log: bytes, trial: TrialView) -> list[dict[str, Any]]:
    there = present_checkpoints([json.loads(line) for line in log.splitlines() if _is_json(line)])
    best = [line for line in there if line["kind"] in ("best", "top")]
    others = sorted((line for line in there if line["kind"] == "resume"), key=lambda line: line.get("env_steps", 0))
    if not trial.state.is_finished:
        return [*best, *others[-RESUME_POINTS:]]
    return best or others[-1:]


def present_checkpoints(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the last line of each file of a checkpoint log that was not deleted and lies in its folder."""
    last = {str(line.get("file")): line for line in lines}
    return [
        line
        for name, line in last.items()
        if not line.get("deleted") and {"kind", "sha256"} <= line.keys() and is_inside(name) and "/" not in name
    ]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _name(root: Path, path: Path) -> str:
    return f"{STUDY}/{path.relative_to(root).as_posix()}"


def _write(file: IO[bytes], study: str, members: Iterator[tuple[str, bytes]]) -> None:
    written: dict[str, dict[str, Any]] = {}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            _add(tar, name, content)
            written[name] = {"sha256": _sha256(content), "bytes": len(content)}
        manifest = {"v": VERSION, "program": __version__, "study": study, "created": utc_now(), "members": written}
        _add(tar, MANIFEST, json.dumps(manifest, indent=2).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(content), int(time.time()), 0o644
    tar.addfile(member, io.BytesIO(content))


# --- reading --------------------------------------------------------------------------------------------------------


def _members_of(file: Path, tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    try:
        return tar.getmembers()
    except tarfile.TarError as error:
        raise _damaged(file, str(error)) from None


def _check_member(file: Path, member: tarfile.TarInfo) -> None:
    if not member.isreg():
        raise _damaged(file, f"{member.name!a} is not a plain file")
    first, _, rest = member.name.partition("/")
    known = member.name in (MANIFEST, DATABASE) or (first == STUDY and rest)
    if not known or not is_inside(member.name):
        raise _damaged(file, f"{member.name!a} would be written outside of the study's folder")


def _read_manifest(file: Path, tar: tarfile.TarFile, names: list[str]) -> Manifest:
    if names.count(MANIFEST) != 1 or len(set(names)) != len(names) or DATABASE not in names:
        raise _damaged(file, "manifest or database is missing, or a member is there twice")
    try:
        content = json.loads(_read(tar, tar.getmember(MANIFEST)))
        members = {str(name): {"sha256": str(entry["sha256"])} for name, entry in content["members"].items()}
        version, study, created = int(content["v"]), str(content["study"]), str(content["created"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(file, f"{MANIFEST} cannot be read") from None
    if version > VERSION:
        raise StorageError(f"{file}: made by a newer vbot-campaign (version {version}, this one knows {VERSION}).")
    if (problem := name_problem(study)) is not None:
        raise _damaged(file, f"study {problem}")
    return Manifest(study, created, members)


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    return content.read() if content is not None else b""


def _digest(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = tar.extractfile(member)
    return hashlib.file_digest(content, "sha256").hexdigest() if content is not None else ""  # type: ignore[arg-type]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _damaged(file: Path, what: str) -> StorageError:
    return StorageError(f"{file}: is damaged or no backup of this program: {what}. Nothing was restored.")
