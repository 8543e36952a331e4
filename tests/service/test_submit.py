"""What goes into the queue, and what is refused in the words of `run`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.files import call, write_files
from tests.support.service import write_study
from tests.support.toy_campaign import READER
from vbot_campaign import fs
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths
from vbot_campaign.service import submit as submitting
from vbot_campaign.service.children import last_words
from vbot_campaign.spec.loading import load_plan, load_study
from vbot_campaign.study import CampaignStudy, open_storage
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.study import close_readers
from vbot_campaign.study.submissions import QueueState, opened, read_submissions
from vbot_campaign.supervisor import warm_start


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CampaignPaths]:
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "runs"))
    yield CampaignPaths(tmp_path / "runs")
    close_readers()


def check(paths: CampaignPaths, file: Path) -> submitting.Checked:
    return submitting.check_file(paths, file)


def test_a_study_says_its_place_and_is_the_same_when_it_is_read_again(
    paths: CampaignPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, "walk")
    spec = load_study(file)
    assert call(monkeypatch, "submit", file) == 0
    assert "study walk: in the queue, place 1." in capsys.readouterr().out
    (one,) = read_submissions(paths)
    given = paths.service.definition("walk")
    fs.write_json(given, one.definition)
    assert load_study(given) == spec


def test_a_plan_with_all_that_it_refers_to_needs_its_files_no_more(paths: CampaignPaths, tmp_path: Path) -> None:
    written = tmp_path / "written"
    written.mkdir()
    checked = check(paths, write_files(written) / "plan.yaml")
    assert (checked.name, checked.kind) == ("two", "plan")
    before = load_plan(written / "plan.yaml")
    for file in written.iterdir():
        file.unlink()
    fs.write_json(tmp_path / "given.yaml", checked.definition)
    again = load_plan(tmp_path / "given.yaml")
    assert again.stages == before.stages
    assert again.reward == before.reward


def test_a_policy_is_named_from_anywhere(paths: CampaignPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_start, "READER_COMMAND", READER)
    (tmp_path / "start.pt").write_text("{}")
    file = write_study(tmp_path, "walk", warm_start={"checkpoint": "start.pt"})
    monkeypatch.chdir(tmp_path.parent)
    stored = check(paths, file).definition["warm_start"]
    assert stored["checkpoint"] == (tmp_path / "start.pt").as_posix()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"physics": "bullet"}, "bullet"),
        ({"trainer": {"command": ["python", "nowhere.py"]}}, "no such script"),
        ({"warm_start": {"study": "nobody"}}, "no study 'nobody'"),
        ({"warm_start": {"checkpoint": "nothing.pt"}}, "nothing.pt"),
        ({"budget": {"trails": 3}}, "Did you mean"),
    ],
)
def test_what_run_refuses_is_refused_and_nothing_is_stored(
    paths: CampaignPaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    assert call(monkeypatch, "submit", write_study(tmp_path, "walk", **changes)) == 2
    assert message in capsys.readouterr().err
    assert read_submissions(paths) == []


def test_files_of_other_kinds_are_refused_with_what_takes_them(
    paths: CampaignPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "submit", write_files(tmp_path) / "rewards.yaml") == 2
    assert "the queue takes studies and plans" in capsys.readouterr().err
    assert call(monkeypatch, "submit", write_study(tmp_path, "walk"), "--priority", "5000") == 2
    assert "--priority 5000: expected -1000 to 1000" in capsys.readouterr().err


def test_a_changed_definition_is_refused_and_a_raised_budget_is_not(
    paths: CampaignPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = open_storage(paths)
    CampaignStudy.create(storage, load_study(write_study(tmp_path, "walk")))
    storage.close()
    assert call(monkeypatch, "submit", write_study(tmp_path, "walk", report_points=7)) == 2
    assert "the file differs from the stored study" in capsys.readouterr().err
    assert call(monkeypatch, "submit", write_study(tmp_path, "walk", budget={"trials": 9})) == 0
    assert [one.definition["budget"]["trials"] for one in read_submissions(paths)] == [9]


def test_a_study_that_somebody_runs_is_refused(
    paths: CampaignPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, "walk")
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, load_study(file))
    session = study.ledger.begin_session(Owner.here(), ["cpu:0"], 30.0)
    assert call(monkeypatch, "submit", file) == 2
    assert "somebody is at work on it just now" in capsys.readouterr().err
    study.ledger.end_session(session, 1.0)
    storage.close()
    assert call(monkeypatch, "submit", file) == 0


def test_cancel_without_a_service_takes_out_what_nobody_runs_and_asks_whoever_does(
    paths: CampaignPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, "walk")
    assert call(monkeypatch, "submit", file) == 0
    with opened(paths) as queue:
        queue.claim(queue.find_open("walk"), [], again=False)
    assert call(monkeypatch, "cancel", "walk") == 0
    assert "nobody was at work on it" in capsys.readouterr().out
    assert [one.state for one in read_submissions(paths)] == [QueueState.CANCELLED]

    assert call(monkeypatch, "submit", file) == 0
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, load_study(file))
    study.ledger.begin_session(Owner.here(), ["cpu:0"], 30.0)
    with opened(paths) as queue:
        queue.claim(queue.find_open("walk"), [], again=False)
    assert call(monkeypatch, "cancel", "walk") == 0
    assert fs.read_json(paths.study("walk").stop_request)["reason"] == "cancelled"
    assert read_submissions(paths)[-1].wanted == "cancel"
    storage.close()


def test_a_study_cannot_take_the_name_of_a_campaign(paths: CampaignPaths, tmp_path: Path) -> None:
    from vbot_campaign.campaign.plans import store
    from vbot_campaign.errors import StudyError

    store(paths, load_plan(write_files(tmp_path) / "plan.yaml"), tmp_path)
    with pytest.raises(StudyError, match="a campaign has the name 'two' already"):
        check(paths, write_study(tmp_path, "two"))


def test_the_last_words_of_a_process_are_its_error_or_its_last_line(tmp_path: Path) -> None:
    log = tmp_path / "walk.log"
    log.write_text("error: of an earlier one\n")
    start = log.stat().st_size
    assert last_words(log, start) == ""
    with log.open("a") as file:
        file.write("Traceback (most recent call last):\n  …\nKeyError: 'x'\n\n")
    assert last_words(log, start) == "KeyError: 'x'"
    with log.open("a") as file:
        file.write("error: walk.yaml:3: wrong\nerror: and more\n")
    assert last_words(log, start) == "walk.yaml:3: wrong and more"
    assert last_words(tmp_path / "none.log", 0) == ""
