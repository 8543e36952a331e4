"""Notes and tags: what is written in the terminal shows in the dashboard, and back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import optuna
import optuna_dashboard
import pytest

from tests.support.stored_study import store_study
from vbot_campaign.errors import SpecError, StudyError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import open_storage
from vbot_campaign.study.annotations import Annotations, change_tags, read_annotations, write_note
from vbot_campaign.study.study import close_readers
from vbot_campaign.study.transfer import copy_study


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[CampaignPaths]:
    """Return the runs folder of a finished study of three trials."""
    paths = CampaignPaths(tmp_path / "runs")
    store_study(paths)
    yield paths
    close_readers()


def dashboard_note(paths: CampaignPaths, trial: int, text: str | None = None) -> str:
    """Return a trial's note as optuna-dashboard reads it, after it has written ``text``."""
    storage = open_storage(paths)
    study = optuna.load_study(study_name="walk", storage=storage.optuna)
    noted = optuna.Trial(study, study.get_trials()[trial]._trial_id)
    if text is not None:
        optuna_dashboard.save_note(noted, text)
    note = str(optuna_dashboard.get_note(noted))
    storage.close()
    return note


def test_a_study_that_nobody_wrote_about_has_no_annotations(paths: CampaignPaths) -> None:
    assert read_annotations(paths, "walk") == Annotations()


def test_a_note_of_the_terminal_is_the_one_of_the_dashboard(paths: CampaignPaths) -> None:
    assert write_note(paths, "walk", 1, "Limps on the *left* side.\n") == "Limps on the *left* side."
    assert dashboard_note(paths, 1) == "Limps on the *left* side."
    assert read_annotations(paths, "walk").notes == {1: "Limps on the *left* side."}


def test_a_note_of_the_dashboard_is_read_and_added_to(paths: CampaignPaths) -> None:
    dashboard_note(paths, 2, "Diverged at once.")
    assert write_note(paths, "walk", 2, "Try half the rate.", append=True) == "Diverged at once.\n\nTry half the rate."
    assert dashboard_note(paths, 2) == "Diverged at once.\n\nTry half the rate."


def test_a_long_note_and_the_shorter_one_after_it_are_whole(paths: CampaignPaths) -> None:
    long = "ü" * 5000  # the dashboard stores a note in pieces of some two thousand letters
    write_note(paths, "walk", 0, long)
    assert read_annotations(paths, "walk").notes == {0: long}
    write_note(paths, "walk", 0, "short")
    assert read_annotations(paths, "walk").notes == {0: "short"}
    write_note(paths, "walk", 0, "")
    assert read_annotations(paths, "walk").notes == {}


def test_tags_are_added_once_and_taken_away(paths: CampaignPaths) -> None:
    assert change_tags(paths, "walk", 1, add=["good  gait", "keep"]) == ("good gait", "keep")
    assert change_tags(paths, "walk", 1, add=["keep", "slow"]) == ("good gait", "keep", "slow")
    assert change_tags(paths, "walk", 0, add=["keep"]) == ("keep",)
    assert read_annotations(paths, "walk").tags == {0: ("keep",), 1: ("good gait", "keep", "slow")}
    assert change_tags(paths, "walk", 0, remove=["keep"]) == ()
    assert read_annotations(paths, "walk").tags == {1: ("good gait", "keep", "slow")}


def test_notes_and_tags_go_with_a_study_into_another_database(paths: CampaignPaths, tmp_path: Path) -> None:
    write_note(paths, "walk", 1, "Limps.")
    change_tags(paths, "walk", 2, add=["keep"])
    elsewhere = CampaignPaths(tmp_path / "elsewhere")
    source, target = open_storage(paths), open_storage(elsewhere)
    other = optuna.create_study(study_name="other", storage=target.optuna)  # so that trials get other ids
    other.tell(other.ask(), 1.0)
    copy_study(source, target, "walk", when=datetime.now(UTC), reason="restored")
    source.close()
    target.close()
    assert read_annotations(elsewhere, "walk") == Annotations({1: "Limps."}, {2: ("keep",)})


@pytest.mark.parametrize("tag", ["", "  ", "a,b", "x" * 41, "a\x1b[31m"])
def test_a_tag_that_cannot_be_one_is_refused(paths: CampaignPaths, tag: str) -> None:
    with pytest.raises(SpecError, match="cannot be one"):
        change_tags(paths, "walk", 1, add=[tag])


def test_a_tag_that_is_not_there_cannot_be_taken_away(paths: CampaignPaths) -> None:
    change_tags(paths, "walk", 1, add=["keep"])
    with pytest.raises(SpecError, match=r"'kep': trial 1 does not have it; it has keep\. Did you mean 'keep'\?"):
        change_tags(paths, "walk", 1, remove=["kep"])


def test_a_trial_or_a_study_that_is_not_there_is_named(paths: CampaignPaths) -> None:
    with pytest.raises(StudyError, match="trial 7: study 'walk' has no such trial; it has 0 to 2"):
        write_note(paths, "walk", 7, "x")
    with pytest.raises(StudyNotFoundError, match="Did you mean 'walk'"):
        read_annotations(paths, "wlak")
