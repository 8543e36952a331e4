"""On what kind of disk a folder lies: SQLite's locks and its write-ahead log need a local one.

The log is shared memory between processes, which ends at the machine, and many network file systems lock unreliably
(https://sqlite.org/wal.html, https://sqlite.org/howtocorrupt.html): sooner or later the database is damaged.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vbot_campaign.errors import StorageError

ALLOW_VARIABLE = "VBOT_CAMPAIGN_ALLOW_NETWORK_DISK"
MOUNTS = Path("/proc/mounts")

_NETWORK = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "fuse.smbnetfs",
    "fuse.sshfs",
    "sshfs",
    "lustre",
    "gpfs",
    "beegfs",
    "fuse.beegfs",
    "fhgfs",
    "glusterfs",
    "fuse.glusterfs",
    "ceph",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "afs",
    "ncpfs",
    "coda",
    "ocfs2",
    "gfs2",
    "pvfs2",
    "orangefs",
    "panfs",
    "davfs",
    "fuse.davfs2",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.gcsfuse",
    "fuse.juicefs",
    "fuse.moosefs",
]
_SHARED = ("9p", "virtiofs")
"""What virtual machines and sandboxes have for a disk of their host: safe with one machine on it, and often slow."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mount:
    """A file system and where it is mounted."""

    point: PurePosixPath
    kind: str
    """Such as ``ext4`` or ``nfs4``."""

    @property
    def is_network(self) -> bool:
        """Whether other machines write to it too."""
        return self.kind in _NETWORK

    @property
    def is_shared(self) -> bool:
        """Whether it is the disk of the machine that this one runs on."""
        return self.kind in _SHARED


def mount_of(path: PurePosixPath, table: str) -> Mount | None:
    """Return the file system that a path lies on.

    Args:
        path: Absolute, without symbolic links.
        table: The content of ``/proc/mounts``.

    Returns:
        The one with the longest mount point above the path; of two on the same point the later one, which hides the
        other. None where none is above it.
    """
    mounts = (mount for line in table.splitlines() if (mount := _parse(line)) is not None)
    above = [mount for mount in mounts if path.is_relative_to(mount.point)]
    return max(reversed(above), key=lambda mount: len(mount.point.parts), default=None)


def check_disk(folder: Path) -> None:
    """Refuse to keep a database on a network file system; warn of a disk that a host shares with its guests.

    Args:
        folder: Where the database is, or will be made.

    Raises:
        StorageError: It is on a network file system, and the environment does not allow it.
    """
    try:
        mount = mount_of(PurePosixPath(folder.resolve()), MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return  # a system without that table
    if mount is None or not (mount.is_network or mount.is_shared):
        return
    where = f"{folder} is on {mount.kind} (mounted at {mount.point})"
    if mount.is_shared:
        _logger.warning("%s: fine for one machine; never let two use it at once.", where)
    elif os.environ.get(ALLOW_VARIABLE) == "1":
        _logger.warning(
            "%s, a network file system, where SQLite can be damaged; %s=1 allows it.", where, ALLOW_VARIABLE
        )
    else:
        raise StorageError(
            f"{where}, a network file system, where SQLite's locks and its write-ahead log do not hold: the database "
            f"would be damaged. Put the runs on a local disk (--runs FOLDER), or set {ALLOW_VARIABLE}=1 at your own "
            "risk."
        )


def _parse(line: str) -> Mount | None:
    fields = line.split(" ")
    if len(fields) < 3:
        return None
    # Spaces, tabs, line ends and backslashes are written as three octal digits.
    point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
    return Mount(PurePosixPath(point), fields[2])
