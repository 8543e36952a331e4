"""Network file systems are found in the system's table of mounts, and refused."""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath

import pytest

from tests.support.faults import refused
from tests.support.study_text import write_study
from vbot_campaign.errors import StorageError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import disk
from vbot_campaign.study.disk import ALLOW_VARIABLE, mount_of
from vbot_campaign.study.storage import open_storage

CLUSTER = """\
sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0
proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0
/dev/nvme0n1p2 / ext4 rw,relatime,errors=remount-ro 0 0
tmpfs /run tmpfs rw,nosuid,nodev,size=13158264k,mode=755 0 0
filer01:/export/home /home nfs4 rw,relatime,vers=4.2,rsize=1048576,hard,proto=tcp,addr=10.0.0.5 0 0
/dev/nvme1n1 /home/ada/scratch xfs rw,relatime,attr2,inode64,logbufs=8 0 0
10.1.0.2@tcp:10.1.0.3@tcp:/big /lustre/big lustre rw,flock,lazystatfs 0 0
//nas/share /mnt/my\\040share cifs rw,relatime,vers=3.1.1,cache=strict,username=ada 0 0
ada@box: /mnt/box fuse.sshfs rw,nosuid,nodev,relatime,user_id=1000,group_id=1000 0 0
/dev/sdb1 /data ext4 rw,relatime 0 0
10.0.0.9:6789:/ /data ceph rw,relatime,name=admin,secret=<hidden>,acl 0 0
gpfs0 /gpfs gpfs rw,relatime 0 0
beegfs_nodev /beegfs beegfs rw,relatime,cfgFile=/etc/beegfs/beegfs-client.conf 0 0
gv0 /gluster fuse.glusterfs rw,relatime,user_id=0 0 0
AFS /afs afs rw,relatime 0 0
"""

SANDBOX = """\
none / 9p rw,trans=fd,rfdno=4,wfdno=4,aname=/,dfltuid=4294967294,cache=remote_revalidating 0 0
none /dev tmpfs rw,mode=0755 0 0
share /srv virtiofs rw,relatime 0 0
"""

CONTAINER = "overlay / overlay rw,relatime,lowerdir=/var/lib/docker/overlay2/l/AB:/x,upperdir=/y,workdir=/z 0 0\n"


def kind(path: str, table: str = CLUSTER) -> str:
    mount = mount_of(PurePosixPath(path), table)
    return mount.kind if mount else "none"


def test_the_longest_mount_point_wins():
    assert kind("/home/ada/runs") == "nfs4"
    assert kind("/home/ada/scratch/runs") == "xfs"
    assert kind("/home/adam") == "nfs4"
    assert kind("/home2/ada") == "ext4", "a name that only begins the same is another folder"
    assert kind("/opt/runs") == "ext4"


def test_of_two_mounts_on_one_point_the_later_one_is_seen():
    assert kind("/data/runs") == "ceph"


def test_spaces_in_a_mount_point_are_read():
    assert kind("/mnt/my share/runs") == "cifs"


@pytest.mark.parametrize(
    "path",
    ["/home/x", "/mnt/my share", "/mnt/box/r", "/lustre/big/r", "/data", "/gpfs/r", "/beegfs", "/gluster", "/afs/r"],
)
def test_network_file_systems_are_known(path):
    mount = mount_of(PurePosixPath(path), CLUSTER)
    assert mount is not None
    assert mount.is_network


@pytest.mark.parametrize(
    ("path", "table"), [("/", SANDBOX), ("/srv/runs", SANDBOX), ("/", CONTAINER), ("/run", CLUSTER)]
)
def test_sandboxes_containers_and_local_disks_are_usable(path, table):
    mount = mount_of(PurePosixPath(path), table)
    assert mount is not None
    assert not mount.is_network


def test_a_table_of_nothing_says_nothing():
    assert mount_of(PurePosixPath("/runs"), "") is None
    assert mount_of(PurePosixPath("/runs"), "broken line\n\n") is None


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """Let the test's folder be a file system of a kind."""

    def mount(kind: str) -> Path:
        table = tmp_path / "mounts"
        point = str(tmp_path.resolve()).replace(" ", "\\040")
        table.write_text(f"/dev/sda1 / ext4 rw 0 0\nfiler:/x {point} {kind} rw,hard 0 0\n")
        monkeypatch.setattr(disk, "MOUNTS", table)
        return tmp_path / "runs"

    return mount


def test_a_study_on_a_network_disk_is_refused_with_the_reason(mounted, tmp_path, capfd):
    root = mounted("nfs4")
    error = refused(capfd, "--runs", root, "run", write_study(tmp_path))
    assert f"{root} is on nfs4 (mounted at {tmp_path.resolve()}), a network file system" in error
    assert "would be damaged. Put the runs on a local disk (--runs FOLDER), or set" in error
    assert not root.exists(), "nothing was made"


def test_a_link_to_a_network_disk_is_followed(mounted, tmp_path):
    root = mounted("fuse.sshfs")
    root.mkdir()
    link = tmp_path.parent / f"{tmp_path.name}_link"
    link.symlink_to(root)
    with pytest.raises(StorageError, match=r"is on fuse\.sshfs"):
        open_storage(CampaignPaths(link))


def test_a_person_may_take_the_risk_and_is_warned(mounted, monkeypatch, caplog):
    monkeypatch.setenv(ALLOW_VARIABLE, "1")
    with caplog.at_level(logging.WARNING):
        open_storage(CampaignPaths(mounted("nfs4"))).close()
    assert "a network file system, where SQLite can be damaged" in caplog.text


def test_a_disk_of_the_host_is_used_with_a_warning(mounted, caplog):
    with caplog.at_level(logging.WARNING):
        open_storage(CampaignPaths(mounted("virtiofs"))).close()
    assert "is on virtiofs" in caplog.text
