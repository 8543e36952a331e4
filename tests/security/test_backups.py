"""A back-up from elsewhere: nothing in it can be written outside of the study's folder."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tarfile

import pytest

from tests.support.faults import refused
from tests.support.stored_study import store_study
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.archive import write_archive
from vbot_campaign.study.study import close_readers


@pytest.fixture
def archive(tmp_path):
    paths = CampaignPaths(tmp_path / "runs")
    store_study(paths)
    file = write_archive(paths, "walk", tmp_path / "walk.tar")
    close_readers()
    return file


def forged(archive, *, members=(), study="walk", replace=None):
    """Write an archive with more members and a manifest that names them all with their true hashes."""
    target = archive.with_name("forged.tar")
    with tarfile.open(archive) as old, tarfile.open(target, "w") as new:
        manifest = json.loads(old.extractfile("manifest.json").read())
        manifest["study"] = study
        plain = [(m, old.extractfile(m).read()) for m in old.getmembers() if m.name != "manifest.json"]
        for member, content in [*plain, *members]:
            content = (replace or {}).get(member.name, content)
            member.size = len(content) if member.isreg() else 0
            new.addfile(member, io.BytesIO(content))
            manifest["members"][member.name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        text = json.dumps(manifest).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(text)
        new.addfile(info, io.BytesIO(text))
    return target


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b"evil"


@pytest.mark.parametrize(
    "extra",
    [
        member("../evil.txt"),
        member("study/../../evil.txt"),
        member("/tmp/evil.txt"),
        member("evil.txt"),
        member("study\\..\\evil.txt"),
        member("C:/evil.txt"),
        member("study/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("study/hard", tarfile.LNKTYPE, "campaign.db"),
        member("study/pipe", tarfile.FIFOTYPE),
        member("study/device", tarfile.CHRTYPE),
        member("study/folder", tarfile.DIRTYPE),
        member("campaign.db"),
    ],
    ids=lambda extra: ascii(extra[0].name),
)
def test_a_member_that_would_be_written_elsewhere_is_refused(archive, tmp_path, capfd, extra):
    elsewhere = tmp_path / "a" / "b" / "runs"
    error = refused(capfd, "--runs", elsewhere, "restore", forged(archive, members=[extra]))
    assert "is damaged or no backup of this program" in error
    assert "Nothing was restored." in error
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["../../x", "..", "/tmp/x", "backups/x"])
def test_the_name_of_the_study_cannot_lead_out(archive, tmp_path, capfd, name):
    error = refused(capfd, "--runs", tmp_path / "b", "restore", forged(archive, study=name))
    assert "cannot be a name" in error
    assert not (tmp_path / "b").exists()


def test_a_path_in_its_database_cannot_lead_out(archive, tmp_path, capfd):
    database = tmp_path / "x.db"
    with tarfile.open(archive) as tar:
        database.write_bytes(tar.extractfile("campaign.db").read())
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE campaign_trials SET folder = '../../../evil' WHERE trial = 0")
    connection.close()
    file = forged(archive, replace={"campaign.db": database.read_bytes()})
    error = refused(capfd, "--runs", tmp_path / "b", "restore", file)
    assert "outside of its study's folder" in error
    assert not (tmp_path / "b" / "walk").exists()


def test_a_packed_archive_is_refused(archive, tmp_path, capfd):
    packed = tmp_path / "bomb.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(archive, "study/x")
    assert "is no backup of this program" in refused(capfd, "--runs", tmp_path / "b", "restore", packed)
