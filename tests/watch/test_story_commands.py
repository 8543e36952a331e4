"""The commands that tell stories, on a study in a real database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.served import dashboard
from tests.support.stored_study import store_study
from tests.support.study_text import write_study
from vbot_campaign.cli import app
from vbot_campaign.errors import CampaignError
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths
from vbot_campaign.study.study import close_readers


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the runs folder of a finished study of three trials."""
    root = tmp_path_factory.mktemp("story") / "runs"
    store_study(CampaignPaths(root))
    yield root
    close_readers()


@pytest.fixture(autouse=True)
def _in_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNS_VARIABLE, str(runs))


def call(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=stdin, catch_exceptions=True)


def printed(*words: str, stdin: str | None = None) -> str:
    done = call(*words, stdin=stdin)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_note_is_written_printed_added_to_and_shown_everywhere(runs: Path) -> None:
    assert printed("note", "walk", "1") == "trial 1 of walk has no note\n"
    printed("note", "walk", "1", "Limps on the *left*.")
    printed("note", "walk", "1", "-", "--append", stdin="Pruned too early?\n")
    assert printed("note", "walk", "1") == "Limps on the *left*.\n\nPruned too early?\n"
    assert "Limps on the *left*." in printed("show", "walk", "1")
    assert "trial 1: Limps on the *left*. Pruned too early?" in printed("summary", "walk")
    with dashboard(runs) as served:
        [study] = json.loads(served.ask("GET", "/api/studies").body)["study_summaries"]
        detail = json.loads(served.ask("GET", f"/api/studies/{study['study_id']}?after=0").body)
    assert [trial["note"]["body"] for trial in detail["trials"]] == [
        "",
        "Limps on the *left*.\n\nPruned too early?",
        "",
    ]
    printed("note", "walk", "1", "")
    assert "has no note" in printed("note", "walk", "1")


def test_tags_are_added_printed_and_taken_away() -> None:
    assert printed("tag", "walk", "0") == "trial 0 of walk: no tags\n"
    assert printed("tag", "walk", "0", "good gait", "keep") == "trial 0 of walk: good gait, keep\n"
    assert "tags: good gait, keep" in printed("show", "walk", "0")
    assert "- trial 0: [good gait] [keep]" in printed("summary", "walk", "--markdown")
    assert printed("tag", "walk", "0", "--remove", "keep", "--remove", "good gait") == "trial 0 of walk: no tags\n"


def test_best_prints_a_path_for_scripts(runs: Path) -> None:
    path = Path(printed("best", "walk", "--path").strip())
    assert path.is_file()
    assert path.is_relative_to(runs)
    assert "best is trial 0" in printed("best", "walk")


def test_compare_prints_and_draws(tmp_path: Path) -> None:
    text = printed("compare", "walk", "0", "1", "--plot", str(tmp_path / "curves.png"))
    assert text.startswith("walk · trials 0 and 1")
    assert text.endswith(f"wrote {tmp_path / 'curves.png'}\n")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert printed("compare", "walk", "0", "1", "--markdown").startswith("# walk · trials 0 and 1\n\n|  | trial 0 |")


def test_history_lists_and_searches(tmp_path: Path) -> None:
    assert printed("history").startswith("3 trials of 1 study in ")
    assert "2 more: --limit 3" in printed("history", "--limit", "1")
    file = write_study(tmp_path)
    assert "nearest to the first trial of tiny" in printed("history", str(file))


@pytest.mark.parametrize(
    "words",
    [
        ("show", "walk", "9"),
        ("show", "wlak", "0"),
        ("compare", "walk", "0"),
        ("note", "walk", "9"),
        ("note", "walk", "9", "x"),
        ("tag", "walk", "9", "x"),
        ("tag", "walk", "0", "a,b"),
        ("tag", "walk", "0", "--remove", "x"),
        ("best", "wlak"),
        ("summary", "wlak"),
        ("history", "nowhere.yaml"),
    ],
)
def test_mistakes_are_errors_of_one_line(words: tuple[str, ...]) -> None:
    done = call(*words)
    assert isinstance(done.exception, CampaignError), done.output
    assert len(str(done.exception).splitlines()) == 1
