"""A study's note and pictures where optuna-dashboard keeps them."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning

from vbot_campaign.study.storage import CampaignStorage


def read_study_note(storage: CampaignStorage, name: str) -> str:
    """Return the note of a study, in Markdown; empty where there is none."""
    from optuna_dashboard import get_note  # a third of a second

    return str(get_note(_load(storage, name)))


def write_study_note(storage: CampaignStorage, name: str, text: str) -> None:
    """Replace the note of a study, and call what it maximizes a score."""
    from optuna_dashboard import save_note

    study = _load(storage, name)
    save_note(study, text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(["score"])


def save_figure(storage: CampaignStorage, name: str, figure_id: str, figure: Any) -> None:
    """Save a picture of a study, or replace the one of that id.

    Args:
        storage: The database.
        name: The study.
        figure_id: A word for HTML.
        figure: A plotly figure.
    """
    from optuna_dashboard import save_plotly_graph_object

    save_plotly_graph_object(_load(storage, name), figure, graph_object_id=figure_id)


def _load(storage: CampaignStorage, name: str) -> optuna.Study:
    # Neither is asked anything; those of the study would take longer to make.
    sampler, pruner = optuna.samplers.RandomSampler(), optuna.pruners.NopPruner()
    return optuna.load_study(study_name=name, storage=storage.optuna, sampler=sampler, pruner=pruner)
