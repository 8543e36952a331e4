"""From a real database to mirrors, and back through `verify`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.stored_study import store_study
from vbot_campaign import fs
from vbot_campaign.errors import StudyNotFoundError
from vbot_campaign.exporters.mirrors import export_all
from vbot_campaign.exporters.verify import verify
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.study import close_readers


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[CampaignPaths]:
    """Return the runs folder of a finished study: one complete, one pruned and one failed trial, with their files."""
    paths = CampaignPaths(tmp_path / "runs")
    store_study(paths)
    yield paths
    close_readers()


def test_what_is_exported_verifies(paths: CampaignPaths) -> None:
    assert {difference.kind for difference in verify(paths, "walk")} == {"mirror"}
    written = export_all(paths, "walk")
    assert sorted(path.relative_to(paths.study("walk").root).as_posix() for path in written) == [
        "automl_state.yaml",
        *(f"configs/trial_{n:04d}.yaml" for n in range(3)),
        *(f"experiments/trial_{n:04d}.yaml" for n in range(3)),
        "index.yaml",
        "registry.yaml",
    ]
    assert verify(paths, "walk") == []


def test_mirrors_hold_what_the_database_holds(paths: CampaignPaths) -> None:
    export_all(paths, "walk")
    study = paths.study("walk")
    state = yaml.safe_load(study.automl_state.read_text())
    assert state["status"] == "completed"
    assert [(row["state"], row["score"]) for row in state["hp_search_history"]] == [
        ("complete", 0.6),
        ("pruned", 0.2),
        ("failed", None),
    ]
    sampled = load_snapshot(paths, "walk").trials[0].parameters
    assert yaml.safe_load(study.config(2).read_text())["sampled"].keys() == sampled.keys()
    [checkpoint] = yaml.safe_load(study.registry.read_text())["checkpoints"]
    assert checkpoint["sha256"] == fs.sha256(study.root / checkpoint["path"])


def test_a_flipped_byte_in_a_real_study_is_found(paths: CampaignPaths) -> None:
    export_all(paths, "walk")
    file = next(paths.study("walk").root.rglob("best_agent.pt"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 0x80
    file.write_bytes(content)
    [difference] = verify(paths, "walk")
    assert difference.kind == "checkpoint"


def test_an_unknown_study_is_named(paths: CampaignPaths) -> None:
    for action in (export_all, verify):
        with pytest.raises(StudyNotFoundError, match=r"'wlak'.*Did you mean 'walk'\?"):
            action(paths, "wlak")
