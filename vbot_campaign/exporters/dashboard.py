"""Keeps what optuna-dashboard shows of a study up to date: its note and its pictures."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from vbot_campaign.exporters import dashboard_note
from vbot_campaign.exporters.curves import Curves, read_curves
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study import load_snapshot, open_storage
from vbot_campaign.study.artifacts import upload_artifacts
from vbot_campaign.study.optuna_notes import read_study_note, save_figure, write_study_note
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView
from vbot_campaign.study.storage import storage_errors

if TYPE_CHECKING:
    from vbot_campaign.study.storage import CampaignStorage


class DashboardExporter:
    """Writes a study's note, and its pictures again whenever a trial has completed.

    An observer of the supervisor and a context manager. What it costs does not grow with the study: the pictures are of
    the best trials, and only the log of the best one is read.

    Args:
        paths: The runs folder.
        name: The study.
    """

    def __init__(self, paths: CampaignPaths, name: str) -> None:
        self._paths = paths
        self._name = name
        self._storage: CampaignStorage | None = None
        self._noted = ""
        self._drawn: tuple[int, ...] = ()
        self._curves: tuple[TrialView | None, Curves] = (None, Curves())

    def __enter__(self) -> DashboardExporter:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the database."""
        if self._storage is not None:
            self._storage.close()
            self._storage = None

    def update(self, snapshot: StudySnapshot) -> None:
        """Write what a snapshot changes.

        Raises:
            StorageError: The database cannot be written.
        """
        complete = tuple(trial.number for trial in snapshot.trials if trial.state is TrialState.COMPLETE)
        note = dashboard_note.render(snapshot)
        if note == self._noted and complete == self._drawn:
            return
        storage = self._open()
        with storage_errors(storage.url):
            if note != self._noted:
                self._write_note(storage, note)
            if complete != self._drawn:
                self._draw(storage, snapshot)
        self._noted, self._drawn = note, complete

    def _open(self) -> CampaignStorage:
        if self._storage is None:
            self._storage = open_storage(self._paths)
        return self._storage

    def _write_note(self, storage: CampaignStorage, ours: str) -> None:
        found = read_study_note(storage, self._name)
        wanted = dashboard_note.combine(ours, found)
        if wanted != found:
            write_study_note(storage, self._name, wanted)

    def _draw(self, storage: CampaignStorage, snapshot: StudySnapshot) -> None:
        from vbot_campaign.exporters import dashboard_plots  # plotly is wanted only once a trial is complete

        for name, figure in dashboard_plots.figures(snapshot, self._best_curves(snapshot)).items():
            save_figure(storage, self._name, name, figure)

    def _best_curves(self, snapshot: StudySnapshot) -> Curves:
        from vbot_campaign.exporters.dashboard_plots import POINTS

        best = snapshot.best
        if best is not None and best.folder is not None and self._curves[0] != best:
            folder = TrialPaths(self._paths.study(self._name).root / best.folder)
            self._curves = (best, read_curves(folder, points=POINTS, up_to=best.env_steps))
        return self._curves[1]


def export_dashboard(paths: CampaignPaths, name: str) -> int:
    """Write all that optuna-dashboard shows of a study, and put the files of every ended trial into its store.

    Returns:
        How many trials have files there.

    Raises:
        StudyNotFoundError: No study has that name.
        StorageError: The database cannot be written.
    """
    snapshot = load_snapshot(paths, name)
    with DashboardExporter(paths, name) as exporter:
        exporter.update(snapshot)
    ended = [trial for trial in snapshot.trials if trial.state.is_finished and trial.folder is not None]
    storage = open_storage(paths)
    try:
        with storage_errors(storage.url):
            for trial in ended:
                folder = TrialPaths(paths.study(name).root / str(trial.folder))
                upload_artifacts(storage, paths, name, trial.number, folder)
    finally:
        storage.close()
    return len(ended)
