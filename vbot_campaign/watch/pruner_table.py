"""What other pruners would have made of a study, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vbot_campaign.study.pruner_audit import PrunerAudit, in_use
from vbot_campaign.study.snapshot import StudySnapshot, TrialState
from vbot_campaign.watch import units


def pruner_table(snapshot: StudySnapshot, audits: Sequence[PrunerAudit]) -> RenderableType:
    """Return a table with one line per pruner."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("pruner", "stops", "env steps", "saved", "best left", "regret"):
        table.add_column(name, justify="left" if name == "pruner" else "right", no_wrap=True)
    for audit in audits:
        table.add_row(
            audit.pruner + (" (in use)" if audit.pruner == in_use(snapshot.spec) else ""),
            str(len(audit.stopped)),
            units.count(audit.env_steps),
            units.percent(audit.saved),
            units.score(audit.best),
            Text(units.score(audit.regret), style="red" if audit.regret > 0 else ""),
        )
    return Group(*map(Text, _head(snapshot)), table)


def _head(snapshot: StudySnapshot) -> list[str]:
    complete = sum(trial.state is TrialState.COMPLETE for trial in snapshot.trials)
    pruned = sum(trial.state is TrialState.PRUNED for trial in snapshot.trials)
    lines = [f"{snapshot.spec.study}: {complete} complete trials replayed, one after the other"]
    if pruned:
        lines.append(f"and {pruned} pruned ones as far as they went: a study with pruner none tells more")
    if noted := sum(trial.would_prune is not None for trial in snapshot.trials):
        lines.append(f"{noted} would have been pruned while it ran: the pruner is on a dry run")
    return lines
