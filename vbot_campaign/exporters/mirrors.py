"""Keeps the YAML files of a study equal to its database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vbot_campaign import fs
from vbot_campaign.exporters import automl_state, experiment_log, index, registry, trial_config
from vbot_campaign.exporters.trial_config import TrialConfig
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView


@dataclass(frozen=True)
class _Rendered:
    """A trial's share of every mirror, good for as long as the trial stays as it was."""

    view: TrialView
    config: TrialConfig
    config_file: str
    experiment_file: str
    history: str
    index: str
    checkpoints: str


class MirrorExporter:
    """Writes the mirrors of one study, and of a trial only what changed.

    An observer of the supervisor: `update` is called from one thread, at most every two seconds, and once at the end.
    A finished trial costs a comparison per update; its own files are not rendered again, and touched again only at the
    end, if someone edited or deleted them.
    The files that list all trials are joined from rendered pieces and replaced only when their text differs.
    """

    def __init__(self, paths: CampaignPaths, name: str) -> None:
        self._paths = paths.study(name)
        self._trials: dict[int, _Rendered] = {}

    def update(self, snapshot: StudySnapshot) -> None:
        """Bring the mirrors up to date with a snapshot."""
        for path, text in self._changes(snapshot):
            _write(path, text)

    def render(self, snapshot: StudySnapshot) -> dict[Path, str]:
        """Return every mirror's path and text without writing any."""
        rendered = [self._trial(snapshot, trial) for trial in snapshot.trials]
        return dict([*self._study_files(snapshot, rendered), *self._trial_files(rendered)])

    def _changes(self, snapshot: StudySnapshot) -> Iterator[tuple[Path, str]]:
        known = dict(self._trials)
        rendered = [self._trial(snapshot, trial) for trial in snapshot.trials]
        # The last picture of a supervisor is compared with the disk as a whole: what was deleted meanwhile comes back.
        last = snapshot.supervisor is None
        changed = [piece for piece in rendered if last or known.get(piece.view.number) is not piece]
        yield from self._trial_files(changed)
        yield from self._study_files(snapshot, rendered)

    def _trial(self, snapshot: StudySnapshot, trial: TrialView) -> _Rendered:
        known = self._trials.get(trial.number)
        if known is not None and known.view == trial:
            return known
        config = trial_config.resolve(self._paths, snapshot.spec, trial, snapshot.warm_start)
        self._trials[trial.number] = _Rendered(
            view=trial,
            config=config,
            config_file=trial_config.render(trial, config),
            experiment_file=experiment_log.render(self._paths, trial, config),
            history=automl_state.render_row(trial, config),
            index=index.render_row(snapshot.spec, trial),
            checkpoints=registry.render_rows(trial),
        )
        return self._trials[trial.number]

    def _trial_files(self, rendered: list[_Rendered]) -> Iterator[tuple[Path, str]]:
        for piece in rendered:
            yield self._paths.config(piece.view.number), piece.config_file
            yield self._paths.experiment(piece.view.number), piece.experiment_file

    def _study_files(self, snapshot: StudySnapshot, rendered: list[_Rendered]) -> Iterator[tuple[Path, str]]:
        best = snapshot.best.number if snapshot.best else None
        chosen = next((piece.config for piece in rendered if piece.view.number == best), None)
        running = (piece.config for piece in reversed(rendered) if piece.view.state is TrialState.RUNNING)
        history = (piece.history for piece in rendered)
        yield self._paths.automl_state, automl_state.render(snapshot, history, chosen, next(running, None))
        yield self._paths.registry, registry.render(snapshot, (piece.checkpoints for piece in rendered))
        yield self._paths.index, index.render(snapshot.spec, (piece.index for piece in rendered))


def _write(path: Path, text: str) -> None:
    # Compared with the disk, not with what was last written: a mirror that someone edited or deleted comes back.
    content = text.encode("utf-8")
    try:
        if path.read_bytes() == content:
            return
    except FileNotFoundError:
        pass
    fs.write_text(path, text)


def export_all(paths: CampaignPaths, name: str) -> list[Path]:
    """Make every mirror of a study from the database.

    Returns:
        The paths of all mirrors, whether or not they had to be written.

    Raises:
        StudyNotFoundError: No study has that name.
    """
    snapshot = load_snapshot(paths, name)
    exporter = MirrorExporter(paths, name)
    exporter.update(snapshot)
    return sorted(exporter.render(snapshot))
