"""A study that is being trained is shown, compared and annotated, and nothing of it is disturbed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import toy_study
from vbot_campaign.exporters.mirrors import export_all
from vbot_campaign.exporters.verify import verify
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.annotations import change_tags, read_annotations, write_note
from vbot_campaign.study.snapshot import StudySnapshot, TrialState
from vbot_campaign.study.study import close_readers
from vbot_campaign.watch.comparison import compare_trials, comparison_page
from vbot_campaign.watch.handover import summary_page
from vbot_campaign.watch.page import render_text
from vbot_campaign.watch.trial_story import trial_story


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[CampaignPaths]:
    yield CampaignPaths(tmp_path / "runs")
    close_readers()


def under_way(paths: CampaignPaths) -> StudySnapshot | None:
    """Return the study once two of its trials have reported something."""
    if not paths.database.exists() or not paths.study("toy").decisions.exists():
        return None
    snapshot = load_snapshot(paths, "toy")
    running = [t for t in snapshot.trials if t.state is TrialState.RUNNING and t.reports and t.folder]
    return snapshot if len(running) == 2 else None


@pytest.mark.slow
def test_everything_is_told_while_workers_train(paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_ITERATION_S", "1.0")  # half a minute a trial: room for what is done meanwhile
    supervisor = toy_study.start(paths, {})
    try:
        toy_study.wait_until(lambda: under_way(paths))
        snapshot = load_snapshot(paths, "toy")
        write_note(paths, "toy", 0, "Looks good.")
        change_tags(paths, "toy", 1, add=["watch"])
        annotations = read_annotations(paths, "toy")
        story = render_text(trial_story(paths, snapshot, 0, annotations))
        compared = compare_trials(paths, snapshot, [0, 1])
        summary = render_text(summary_page(paths, snapshot, annotations))
        still = load_snapshot(paths, "toy")
    finally:
        supervisor.send_signal(signal.SIGTERM)
        printed, complaints = supervisor.communicate(timeout=120)
    assert supervisor.returncode == 0, complaints
    assert printed.startswith("stopped")

    assert [trial.state for trial in still.trials[:2]] == [TrialState.RUNNING, TrialState.RUNNING]
    assert "toy · trial 0 · running" in story
    assert "Looks good." in story
    assert compared.env_steps > 0
    assert "which all have reached" in render_text(comparison_page(compared))
    assert "- trial 1: [watch]" in summary
    export_all(paths, "toy")
    assert [found for found in verify(paths, "toy") if found.kind == "mirror"] == []
    assert read_annotations(paths, "toy") == annotations
    assert TrialPaths(paths.study("toy").root / str(still.trials[0].folder)).metrics.exists()
