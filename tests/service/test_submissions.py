"""The queue in a real database: order, one of a name, and changes that come too late."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vbot_campaign.errors import StudyError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.service.readings import queue_json, queue_lines
from vbot_campaign.study.submissions import QueueState, Submissions, opened, read_submissions


@pytest.fixture(params=["file", pytest.param("server", marks=pytest.mark.postgres)])
def paths(request: pytest.FixtureRequest, tmp_path: Path) -> CampaignPaths:
    url = request.getfixturevalue("database_url") if request.param == "server" else None
    return CampaignPaths(tmp_path / "runs", url)


@pytest.fixture
def queue(paths: CampaignPaths) -> Iterator[Submissions]:
    with opened(paths) as made:
        yield made


def names(queue: Submissions) -> list[str]:
    return [one.name for one in queue.open()]


def test_the_highest_priority_goes_first_and_among_equals_the_oldest(queue: Submissions) -> None:
    for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5)):
        queue.add(name, "study", {"study": name}, priority=priority)
    assert names(queue) == ["b", "e", "a", "c", "d"]
    assert [line.position for line in queue_lines(queue.open())] == [1, 2, 3, 4, 5]


def test_what_was_begun_goes_back_to_the_head_before_any_priority(queue: Submissions) -> None:
    queue.add("begun", "study", {}, priority=0)
    queue.add("urgent", "plan", {}, priority=100)
    assert queue.claim(queue.find_open("begun"), ["cpu:0"], again=False)
    running = queue.find_open("begun")
    assert (running.state, running.share, running.restarts) == (QueueState.RUNNING, ("cpu:0",), 0)
    assert running.started is not None
    assert queue.requeue(running, "the service was stopped")
    assert names(queue) == ["begun", "urgent"]
    assert queue.claim(queue.find_open("begun"), [], again=True)
    again = queue.find_open("begun")
    assert (again.started, again.restarts, again.share) == (running.started, 1, ())


def test_one_of_a_name_is_in_the_queue_and_after_its_end_another_may_follow(queue: Submissions) -> None:
    first = queue.add("a", "study", {"budget": 1}, priority=0)
    with pytest.raises(StudyError, match=r"'a': is in the queue already \(queued\).*vbot-campaign cancel a"):
        queue.add("a", "study", {}, priority=0)
    assert queue.end(first, QueueState.FINISHED, "all done")
    queue.add("a", "study", {"budget": 2}, priority=0)
    assert [one.definition for one in queue.all()] == [{"budget": 1}, {"budget": 2}]
    assert [line.state for line in queue_lines(queue.all())] == ["queued", "finished"]


def test_of_two_who_submit_at_once_one_is_told(paths: CampaignPaths, queue: Submissions) -> None:
    start, outcomes = threading.Barrier(4), []

    def submit() -> None:
        start.wait(240)
        try:
            queue.add("a", "study", {}, priority=0)
            outcomes.append("queued")
        except StudyError:
            outcomes.append("refused")

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert sorted(outcomes) == ["queued", "refused", "refused", "refused"]


def test_a_change_that_comes_too_late_changes_nothing(queue: Submissions) -> None:
    seen = queue.add("a", "study", {}, priority=0)
    assert queue.end(seen, QueueState.CANCELLED, "cancelled in the queue")
    assert not queue.claim(seen, [], again=False), "the service saw it before it was cancelled"
    assert queue.all()[0].state is QueueState.CANCELLED

    queue.add("b", "study", {}, priority=0)
    queue.claim(queue.find_open("b"), [], again=False)
    resting = queue.find_open("b")
    assert queue.change(resting, wanted="cancel")
    assert not queue.claim(resting, [], again=True), "it was cancelled between two processes"
    assert not queue.end(replace(resting, state=QueueState.QUEUED), QueueState.FAILED, "")


def test_what_is_not_there_is_named_with_what_is(queue: Submissions) -> None:
    with pytest.raises(StudyNotFoundError, match="In it: nothing"):
        queue.find_open("walk")
    queue.add("walk", "study", {}, priority=0)
    with pytest.raises(StudyNotFoundError, match=r"'wolk': not in the queue\. Did you mean 'walk'\? In it: walk"):
        queue.find_open("wolk")


def test_reading_makes_no_database(tmp_path: Path) -> None:
    paths = CampaignPaths(tmp_path / "runs")
    assert read_submissions(paths) == []
    assert queue_json([]) == {"schema_version": 1, "queue": []}
    assert not paths.root.exists()
