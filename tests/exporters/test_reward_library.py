"""The reward library: weights of a trial, kept with what it achieved."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tests.support.snapshots import PARTS, STEPS
from tests.support.stored_study import store_study
from vbot_campaign.errors import SpecError, StudyNotFoundError
from vbot_campaign.exporters.reward_library import (
    change_entry,
    copy_entry,
    entry_names,
    entry_text,
    read_entry,
    save_entry,
)
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.document import read_document
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.reward_file import read_rewards
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.study import close_readers
from vbot_campaign.watch.reward_library import render_entry

NOW = datetime(2026, 2, 1, 8, 30, tzinfo=UTC)


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[CampaignPaths]:
    """Make a runs folder with the study ``walk``: one complete, one pruned and one failed trial."""
    folder = CampaignPaths(tmp_path / "runs")
    store_study(folder)
    yield folder
    close_readers()


def test_an_entry_has_the_weights_and_what_they_achieved(paths: CampaignPaths) -> None:
    file = save_entry(paths, "good", "walk:0", notes="stops cleanly", now=NOW)
    assert file == paths.root / "reward_library" / "good.yaml"
    trial = load_snapshot(paths, "walk").trials[0]
    entry = read_entry(paths, "good")
    assert entry.record is not None
    assert entry.record.model_dump() == {
        "status": "tested",
        "notes": "stops cleanly",
        "saved": "2026-02-01T08:30:00Z",
        "study": "walk",
        "trial": 0,
        "score": 0.6,
        "env_steps": STEPS,
        "metrics": PARTS,
        "physics": "mujoco",
        "env": {"spawn_outer_radius": 4.0},
    }
    weights = {term: value for terms in entry.reward.values() for term, value in terms.items()}
    declared = get_environment(entry.environment).rewards
    usual = {term.name: term.default for term in declared.values()}
    assert weights == {**usual, "arrival_bonus": trial.parameters["reward.arrival_bonus"]}
    assert all(declared[term].category == category for category, terms in entry.reward.items() for term in terms)


def test_an_entry_is_plain_yaml(paths: CampaignPaths) -> None:
    values = yaml.safe_load(save_entry(paths, "good", "walk:0").read_text(encoding="utf-8"))
    assert list(values) == ["environment", "record", "reward"]
    assert values["record"]["metrics"]["success_rate"] == 0.5


def test_a_pruned_trial_counts_as_untested(paths: CampaignPaths) -> None:
    save_entry(paths, "fast", "walk:1")
    save_entry(paths, "fine", "walk:1", status="promising")
    records = [read_entry(paths, name).record for name in entry_names(paths)]
    assert [record.status for record in records if record] == ["untested", "promising"]


def test_status_and_notes_change_and_the_rest_stays(paths: CampaignPaths) -> None:
    save_entry(paths, "good", "walk:0", notes="first")
    before = read_entry(paths, "good")
    change_entry(paths, "good", status="adopted")
    after = change_entry(paths, "good", notes="used for the far study")
    assert read_entry(paths, "good") == after
    assert before.record is not None
    wanted = before.record.model_copy(update={"status": "adopted", "notes": "used for the far study"})
    assert after == before.model_copy(update={"record": wanted})


def test_an_entry_as_a_reward_file(paths: CampaignPaths, tmp_path: Path) -> None:
    save_entry(paths, "good", "walk:0")
    copy_entry(paths, "good", tmp_path / "mine" / "rewards.yaml")
    text = (tmp_path / "mine" / "rewards.yaml").read_text(encoding="utf-8")
    assert text == entry_text(paths, "good")
    assert "trial 0 of study walk" in text
    rewards = read_rewards(read_document(tmp_path / "mine" / "rewards.yaml"))
    assert rewards == read_entry(paths, "good").model_copy(update={"record": None})
    with pytest.raises(SpecError, match="is there already, and stays as it is"):
        copy_entry(paths, "good", tmp_path / "mine" / "rewards.yaml")


def test_shown_beside_the_defaults(paths: CampaignPaths) -> None:
    save_entry(paths, "good", "walk:1")
    text = render_entry(paths, "good")
    assert max(map(len, text.splitlines())) <= 80
    assert "walk:1 on mujoco, 300,000 env steps" in text
    (line,) = [line for line in text.splitlines() if "arrival_bonus" in line]
    assert line.endswith("default 100")


def test_nothing_is_overwritten(paths: CampaignPaths) -> None:
    file = save_entry(paths, "good", "walk:0")
    before = file.read_bytes()
    with pytest.raises(SpecError, match=r"'good' is there already; pick another name.*rewards set good"):
        save_entry(paths, "good", "walk:1")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("walk", "--from walk: expected STUDY:TRIAL, such as section001:7"),
        ("walk:best", "expected STUDY:TRIAL"),
        ("walk:3", "study 'walk' has 3 trials, counted from 0"),
        ("walk:2", "trial 2 is failed; only a trial with a score can be kept"),
    ],
)
def test_a_source_that_is_none(paths: CampaignPaths, source: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        save_entry(paths, "good", source)
    assert entry_names(paths) == []


def test_other_mistakes(paths: CampaignPaths) -> None:
    with pytest.raises(StudyNotFoundError, match="'wakl'"):
        save_entry(paths, "good", "wakl:0")
    with pytest.raises(SpecError, match=r"'\.\./good' cannot be a name"):
        save_entry(paths, "../good", "walk:0")
    with pytest.raises(SpecError, match=r"--status best: no such status. .*Valid: untested, tested"):
        save_entry(paths, "good", "walk:0", status="best")
    with pytest.raises(SpecError, match=r"no entry 'good'. It is empty"):
        read_entry(paths, "good")
    save_entry(paths, "good", "walk:0")
    with pytest.raises(SpecError, match=r"no entry 'god'. Did you mean 'good'\? It has: good"):
        read_entry(paths, "god")
    with pytest.raises(SpecError, match="nothing to change; give --status, --notes"):
        change_entry(paths, "good")
