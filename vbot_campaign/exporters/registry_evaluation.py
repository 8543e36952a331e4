"""The best policy of every study, played in every engine: ``run --mode eval``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vbot_campaign.errors import StudyError
from vbot_campaign.exporters.report.data import ranking
from vbot_campaign.exporters.report.evaluations import Played, evaluate_missing, kept
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import load_snapshot, study_names
from vbot_campaign.study.snapshot import TrialView


@dataclass(frozen=True)
class PlayedPolicy:
    """The best policy of a study."""

    study: str
    trial: TrialView
    played: Played
    """What it did, by engine; empty where it could not be played."""


def evaluate_registry(paths: CampaignPaths, name: str | None, say: Callable[[str], None]) -> list[PlayedPolicy]:
    """Play the best policy of each study in each engine, as far as that has not been done before.

    Results are kept in ``evaluations/`` of the study's folder, by the hash of the policy, where reports find them too.

    Args:
        paths: The runs folder.
        name: A study; those made from it are played too. None for all.
        say: Prints a line.

    Raises:
        StudyError: There is no such study, or none with a score.
    """
    found = list(_played(paths, name, say))
    if not found:
        where = f"study '{name}'" if name is not None else f"{paths.root.as_posix()}"
        raise StudyError(f"--mode eval: {where} has no trial with a score yet, so there is no policy to play.")
    return found


def _played(paths: CampaignPaths, name: str | None, say: Callable[[str], None]) -> Iterator[PlayedPolicy]:
    if name is not None:
        load_snapshot(paths, name)  # names the studies that there are, where this one is not
    for study in study_names(paths):
        if name is not None and study != name and not study.startswith(f"{name}."):
            continue
        best = ranking(load_snapshot(paths, study))[:1]
        if best:
            evaluate_missing(paths.study(study), best, lambda line, study=study: say(f"{study}: {line}"))  # type: ignore[misc]
            yield PlayedPolicy(study, best[0], kept(paths.study(study), best).get(best[0].number, {}))
