"""A folder that is copied piece by piece while it is written: nothing torn, nothing twice, nothing that is gone."""

from __future__ import annotations

import dataclasses
import os

import pytest

from vbot_campaign.errors import CheckpointCorruptError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.supervisor.raycluster.pieces import Held, Piece, Reader, Writer, files_of, held_of, pieces_of


@pytest.fixture
def there(tmp_path):
    """The folder in which a worker writes."""
    folder = TrialPaths(tmp_path / "node" / "0000_x")
    folder.checkpoints.mkdir(parents=True)
    return folder


@pytest.fixture
def here(tmp_path):
    """The folder that is its copy."""
    (root := tmp_path / "runs" / "0000_x").mkdir(parents=True)
    return TrialPaths(root)


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def copy(reader, writer, budget=1 << 20):
    """Fetch until nothing is left; return the names of the pieces in their order."""
    names = []
    for _ in range(100):
        batch = reader.read(writer.held, budget)
        for piece in batch.pieces:
            writer.write(piece)
            names.append(piece.name)
        writer.forget(batch.names)
        if not batch.more:
            return names
    raise AssertionError("it never ends")


def contents(folder):
    return {path.relative_to(folder.root).as_posix(): path.read_bytes() for path in folder.root.rglob("*.*")}


def test_logs_grow_by_what_is_new(there, here):
    reader, writer = Reader(there), Writer(here.root)
    append(there.metrics, "one\n")
    copy(reader, writer)
    inode = here.metrics.stat().st_ino
    append(there.metrics, "two\n")
    batch = reader.read(writer.held)
    assert [(piece.offset, piece.data) for piece in batch.pieces] == [(4, b"two\n")]
    copy(reader, writer)
    assert here.metrics.read_text() == "one\ntwo\n"
    assert here.metrics.stat().st_ino == inode
    assert copy(reader, writer) == []


def test_a_checkpoint_comes_before_its_line_and_the_result_last(there, here):
    (there.checkpoint(1000)).write_bytes(b"x" * 1000)
    append(there.checkpoint_log, '{"file": "agent_1000.pt"}\n')
    append(there.metrics, "one\n")
    there.result.write_text("{}")
    reader, writer = Reader(there), Writer(here.root)
    names = copy(reader, writer, budget=300)
    first_line = names.index("checkpoints/checkpoints.jsonl")
    assert names.index("checkpoints/agent_1000.pt") < first_line
    assert "checkpoints/agent_1000.pt" not in names[first_line:]
    assert names[-1] == "result.json"
    assert contents(here) == contents(there)


def test_a_half_fetched_file_is_not_there_yet(there, here):
    there.checkpoint(1000).write_bytes(os.urandom(1000))
    reader, writer = Reader(there), Writer(here.root)
    [piece] = reader.read(writer.held, 300).pieces
    writer.write(piece)
    assert not here.checkpoint(1000).exists()
    there.checkpoint(1000).unlink()
    there.checkpoint(1000).write_bytes(os.urandom(1200))  # replaced in the middle
    copy(reader, writer, budget=300)
    assert here.checkpoint(1000).read_bytes() == there.checkpoint(1000).read_bytes()


def test_a_log_that_is_cut_by_replacing_it_is_cut_here(there, here):
    reader, writer = Reader(there), Writer(here.root)
    append(there.metrics, "one\ntwo\nthree\n")
    copy(reader, writer)
    cut = there.root / "cut"
    cut.write_text("one\n")
    os.replace(cut, there.metrics)
    append(there.metrics, "TWO\nTHREE\n")  # of the same size again
    copy(reader, writer, budget=5)
    assert here.metrics.read_text() == "one\nTWO\nTHREE\n"


def test_what_is_removed_there_is_removed_here_and_nothing_else(there, here):
    here.path_plot.write_bytes(b"of an earlier attempt")
    writer = Writer(here.root)
    writer.trust(here.path_plot.name, held_of(here.path_plot), is_shared=False)
    there.checkpoint(1000).write_bytes(b"old")
    copy(Reader(there), writer)
    there.checkpoint(1000).unlink()
    there.checkpoint(2000).write_bytes(b"new")
    copy(Reader(there), writer)
    assert sorted(contents(here)) == ["checkpoints/agent_2000.pt", "paths.png"]


def test_who_has_a_file_already_does_not_get_it_again(there, here):
    append(there.metrics, "one\n")
    there.checkpoint(1000).write_bytes(b"point")
    copy(Reader(there), Writer(here.root))
    # Another supervisor knows nothing of marks, but has the files.
    writer = Writer(here.root)
    for name in files_of(here.root):
        writer.trust(name, held_of(here.root / name), is_shared=False)
    append(there.metrics, "two\n")
    batch = Reader(there).read(writer.held)
    assert b"".join(piece.data for piece in batch.pieces) == b"two\n"
    copy(Reader(there), writer)
    assert contents(here) == contents(there)
    assert Reader(there).read(writer.held).pieces == ()


def test_a_log_that_went_another_way_is_fetched_anew(there, here):
    append(there.metrics, "one\nTWO\n")
    append(here.metrics, "one\ntwo\nthree\n")
    writer = Writer(here.root)
    writer.trust(here.metrics.name, held_of(here.metrics), is_shared=False)
    copy(Reader(there), writer)
    assert here.metrics.read_text() == "one\nTWO\n"


def test_a_piece_may_be_written_twice(there, here):
    there.checkpoint(1000).write_bytes(content := os.urandom(900))
    writer = Writer(here.root)
    pieces = [
        Piece("checkpoints/agent_1000.pt", "m", start, content[start : start + 300], 900, held.mark[7:])
        for held in [held_of(there.checkpoint(1000))]
        for start in (0, 300, 600)
    ]
    for piece in (pieces[0], pieces[0], pieces[1], pieces[1], pieces[2], pieces[2]):
        writer.write(piece)
    assert here.checkpoint(1000).read_bytes() == content
    assert writer.held == {"checkpoints/agent_1000.pt": Held(900, "m")}


def test_what_was_altered_on_the_way_is_refused(there, here):
    there.checkpoint(1000).write_bytes(b"point")
    [piece] = pieces_of(there.checkpoint(1000), "checkpoints/agent_1000.pt")
    altered = dataclasses.replace(piece, data=b"p0int")
    writer = Writer(here.root)
    writer.write(altered)  # once: it is asked for again
    assert not here.checkpoint(1000).exists()
    with pytest.raises(CheckpointCorruptError, match=r"agent_1000\.pt: its SHA-256 is .* after the transfer"):
        writer.write(altered)
    assert not here.checkpoint(1000).exists()


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "checkpoints/../../escaped"])
def test_a_node_cannot_write_outside_of_the_trials_folder(here, name):
    with pytest.raises(CheckpointCorruptError, match="leads out of the trial's folder"):
        Writer(here.root).write(Piece(name, "m", 0, b"x", 1))
    assert contents(here) == {}


def test_what_belongs_to_the_supervisor_or_is_being_written_is_not_fetched(there, here):
    there.spec.write_text("{}")
    there.stop_request.write_text("{}")
    there.lock.touch()
    (there.checkpoints / ".agent_1000.pt.ab12.part").write_bytes(b"half")
    (there.root / "elsewhere").symlink_to("/etc/hostname")
    there.log.write_text("hello\n")
    assert list(files_of(there.root)) == ["worker.log"]
