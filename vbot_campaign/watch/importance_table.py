"""Which parameters decide the score, and which may be fixed: ``vbot-campaign importance``."""

from __future__ import annotations

import json
from typing import Any

from vbot_campaign.spec import groups
from vbot_campaign.spec.narrowing import yaml_text
from vbot_campaign.spec.problems import show
from vbot_campaign.spec.ranges import range_text
from vbot_campaign.study.importance import METHODS, fixable, importances_by
from vbot_campaign.study.snapshot import StudySnapshot, TrialState
from vbot_campaign.watch.page import Block, Commands, Heading, Paragraph, Table, Title

ROUGH = 20
"""Complete trials below which shares are only a hint."""
_BAR = 10


def importance_page(snapshot: StudySnapshot, method: str) -> list[Block]:
    """Return a table of shares, and what may be fixed at which values.

    Args:
        snapshot: The study.
        method: One of `METHODS`.

    Raises:
        SpecError: No such method, or it needs a package.
        StudyError: The trials say nothing.
    """
    shares = importances_by(snapshot, method)
    best = snapshot.best.parameters if snapshot.best else {}
    complete = sum(trial.state is TrialState.COMPLETE for trial in snapshot.trials)
    rows = tuple(
        (name, "#" * round(share * _BAR), f"{share:.0%}", *_values(snapshot, best, name))
        for name, share in shares.items()
    )
    blocks: list[Block] = [
        Title(f"What decides the score of {snapshot.spec.study}: {METHODS[method]} over {complete} complete trials"),
        Table(("parameter", "", "share", "best trial", "range"), rows, left=2, wraps=4),
    ]
    if complete < ROUGH:
        blocks.append(Paragraph(f"With fewer than {ROUGH} complete trials this is a hint, no more."))
    return [*blocks, *_suggestion(snapshot, fixable(shares), best)]


def importance_json(snapshot: StudySnapshot, method: str) -> str:
    """Return the shares, and what may be fixed at which values, as JSON."""
    shares = importances_by(snapshot, method)
    best = snapshot.best.parameters if snapshot.best else {}
    fix = {name: best[name] for name in fixable(shares) if name in best}
    return json.dumps({"study": snapshot.spec.study, "method": METHODS[method], "shares": shares, "fix": fix}, indent=2)


def _values(snapshot: StudySnapshot, best: dict[str, Any], name: str) -> tuple[str, str]:
    value = best.get(name)
    return show(value) if isinstance(value, list) else _short(value), range_text(snapshot.spec.parameters[name])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def _suggestion(snapshot: StudySnapshot, names: list[str], best: dict[str, Any]) -> list[Block]:
    fixed: dict[str, dict[str, Any]] = {}
    for name in (name for name in names if name in best):
        group, short = groups.split_name(name)
        value = best[name]
        fixed.setdefault(group, {})[short] = float(f"{value:.4g}") if isinstance(value, float) else value
    if not fixed:
        return [Paragraph("Nothing matters so little that it had better be fixed.")]
    number = snapshot.best.number if snapshot.best else None
    text = yaml_text({"fixed": fixed}).rstrip().splitlines()
    return [
        Heading("Fix in the next study"),
        Paragraph(
            f"These decide least. Take them out of search_space, at the values of the best trial ({number}); "
            "the sampler then has fewer dimensions to learn."
        ),
        Commands(tuple(text)),
    ]
