"""The service as it is started: real supervisors in processes of their own, signals, and what is left in the queue."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import Queue, Service, queue_in, write_plan
from vbot_campaign.cli.pages import TOKEN_VARIABLE
from vbot_campaign.errors import StudyNotFoundError
from vbot_campaign.service.readings import queue_lines
from vbot_campaign.study.reading import read_snapshot
from vbot_campaign.study.submissions import read_submissions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # they wait far more than they compute, on a busy machine for long
    pytest.mark.skipif(sys.platform == "win32", reason="signals and sessions as on Unix"),
]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with queue_in(tmp_path, TOY_ITERATION_S="0.02") as made:
        yield made


@pytest.fixture
def slow_queue(tmp_path: Path) -> Iterator[Queue]:
    """Trials of two and a half minutes, so that a signal meets them at work on a busy machine too."""
    with queue_in(tmp_path, TOY_ITERATION_S="5.0") as made:
        yield made


def started(service: Service) -> list[str]:
    """Return the names of what was started, in order."""
    return [line.split()[1].rstrip(":") for line in service.said.splitlines() if ": started (pid" in line]


def test_three_studies_run_unattended_by_priority_and_one_failure_stops_nothing(queue: Queue) -> None:
    broken = queue.folder / "broken.py"
    broken.write_text("raise SystemExit(1)\n")
    trainer = {"command": ["python", "broken.py"]}
    queue.submit("broken", priority=7, trainer=trainer)
    queue.submit("last")
    queue.submit("soon", priority=5)

    service = queue.serve()
    queue.wait_for(lambda: all(not one.state.is_open for one in queue.rows().values()))

    assert started(service) == ["broken", "soon", "last"]
    assert {name: queue.state(name) for name in queue.rows()} == {
        "broken": "failed",
        "soon": "finished",
        "last": "finished",
    }
    assert queue.rows()["broken"].reason
    for name in ("soon", "last"):
        queue.assert_trained_once(name)
        assert len(read_snapshot(queue.paths, name).trials[0].attempts) == 1
    assert service.end() == 0
    table = queue.call("queue")
    assert "no service is at work" in table
    assert all(word in table for word in ("broken", "failed", "finished"))


def test_a_service_that_is_killed_leaves_its_study_training_and_the_next_one_waits_for_it(slow_queue: Queue) -> None:
    queue = slow_queue
    queue.submit("one", budget={"trials": 1})
    service = queue.serve()
    queue.wait_for(lambda: queue.iterations("one") > 0)
    owner = queue.rows()["one"].owner
    assert owner is not None
    service.end(signal.SIGKILL)
    assert owner.is_alive(), "the supervisor is none of the service's"

    before = queue.iterations("one")
    second = queue.serve()
    queue.wait_for(lambda: queue.iterations("one") > before)
    assert owner.is_alive()
    assert queue.rows()["one"].owner == owner, "nothing was started twice"
    assert queue.state("one") == "running"

    # Now its supervisor dies as well, and its worker trains on: the service resumes it, and adopts the worker.
    os.kill(owner.pid, signal.SIGKILL)
    queue.wait_for(lambda: queue.state("one") == "finished")
    assert queue.rows()["one"].restarts >= 1
    assert "its supervisor died" in second.said
    queue.assert_trained_once("one", trials=1)
    assert len(read_snapshot(queue.paths, "one").trials[0].attempts) == 1, "no attempt was lost"
    assert second.end() == 0


def test_a_drain_stops_with_checkpoints_and_the_next_service_goes_on(slow_queue: Queue) -> None:
    queue = slow_queue
    queue.submit("one", "two")
    service = queue.serve()
    queue.wait_for(lambda: queue.iterations("one") > 0)
    refusal = queue.call("serve", "--port", "0", code=2)
    assert f"pid {service.process.pid} on " in refusal
    assert service.end(signal.SIGTERM) == 0
    assert "back at the head of the queue" in service.said
    assert {name: queue.state(name) for name in ("one", "two")} == {"one": "queued", "two": "queued"}
    stopped = read_snapshot(queue.paths, "one")
    assert (stopped.state, stopped.supervisor) == ("stopped", None)
    assert stopped.trials[0].checkpoints, "it was stopped with a checkpoint"

    queue.submit("urgent", priority=9)
    lines = queue_lines(read_submissions(queue.paths))
    assert [(line.position, line.name) for line in lines] == [(1, "one"), (2, "urgent"), (3, "two")]
    queue.cancel("urgent")
    queue.cancel("two")
    queue.environ["TOY_ITERATION_S"] = "0.02"
    second = queue.serve()
    queue.wait_for(lambda: queue.state("one") == "finished")
    queue.assert_trained_once("one")
    assert second.end() == 0


def test_cancel_stops_a_running_study_and_its_place_goes_to_the_next(slow_queue: Queue) -> None:
    queue = slow_queue
    queue.submit("one", "two", "three")
    assert "taken out of the queue" in queue.cancel("three")
    service = queue.serve()
    queue.wait_for(lambda: queue.iterations("one") > 0)
    assert "asked to stop" in queue.cancel("one")
    queue.wait_for(lambda: queue.iterations("two") > 0)
    assert (queue.state("one"), queue.state("two"), queue.state("three")) == ("cancelled", "running", "cancelled")
    assert read_snapshot(queue.paths, "one").state == "stopped"
    with pytest.raises(StudyNotFoundError, match="'one': not in the queue"):
        queue.cancel("one")

    # The first signal asks, the second has the worker killed; the study goes back to the queue all the same.
    service.process.send_signal(signal.SIGTERM)
    queue.wait_for(lambda: "draining" in service.said)
    assert service.end(signal.SIGTERM) == 0
    assert queue.state("two") == "queued"


def test_a_plan_is_drained_in_the_middle_and_goes_on_to_its_end(slow_queue: Queue) -> None:
    queue = slow_queue
    queue.submit_file(write_plan(queue.folder, "tour"))
    service = queue.serve()
    queue.wait_for(lambda: queue.iterations("tour.near.search") > 0)
    assert service.end() == 0
    assert queue.state("tour") == "queued"
    assert read_snapshot(queue.paths, "tour.near.search").state == "stopped"

    queue.environ["TOY_ITERATION_S"] = "0.02"
    second = queue.serve()
    queue.wait_for(lambda: not queue.rows()["tour"].state.is_open)
    assert queue.state("tour") == "finished", queue.rows()["tour"].reason
    assert queue.rows()["tour"].restarts == 1
    queue.assert_trained_once("tour.near.search")
    queue.assert_trained_once("tour.near.train", trials=1)
    assert second.end() == 0


@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: ())(0)) < 2, reason="needs two cores")
def test_two_at_once_have_a_core_each_and_none_of_the_secrets_of_the_service(slow_queue: Queue) -> None:
    queue = slow_queue
    queue.submit("one", "two")
    with listening(queue.folder / "notify") as heard:
        secrets = {TOKEN_VARIABLE: "s3cret", "NOTIFY_SOCKET": str(queue.folder / "notify"), "WATCHDOG_USEC": "2000000"}
        service = queue.serve("--parallel", "2", **secrets)
        queue.wait_for(lambda: queue.iterations("one") > 0 and queue.iterations("two") > 0)

        owners = [owner for name in ("one", "two") if (owner := queue.rows()[name].owner) is not None]
        cores = [os.sched_getaffinity(owner.pid) for owner in owners]
        assert len(cores) == 2
        assert cores[0].isdisjoint(cores[1])
        for owner in owners:
            inherited = Path(f"/proc/{owner.pid}/environ").read_bytes()
            assert not any(name.encode() in inherited for name in secrets)

        assert service.ask("/metrics").status == 401
        metrics = service.ask("/metrics", Authorization="Bearer s3cret").body.decode()
        assert "vbot_campaign_supervisors_running 2.0" in metrics
        assert service.end() == 0
    assert heard[0] == "READY=1"
    assert heard[-1] == "STOPPING=1"
    assert {"WATCHDOG=1", "STATUS=2 running, 0 queued"} <= set(heard)
    assert any(line.startswith("STATUS=draining") for line in heard)
    assert [queue.state(name) for name in ("one", "two")] == ["queued", "queued"]


@contextlib.contextmanager
def listening(address: Path) -> Iterator[list[str]]:
    """Yield what a service tells its manager, which listens all along: a socket holds no more than ten messages."""
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))

        def listen() -> None:
            while (message := manager.recv(4096).decode()) != "":
                heard.append(message)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            yield heard
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.sendto(b"", str(address))
            listener.join(240)
