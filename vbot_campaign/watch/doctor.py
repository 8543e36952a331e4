"""Is this machine fit to run studies? One line per question, and what to do where the answer is no."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from vbot_campaign.paths import CampaignPaths

DOCTOR_SCHEMA = 1
_WIDTH = 80
_NAME = 14


class Level(StrEnum):
    """What an answer means."""

    OK = "ok"
    WARN = "warn"
    """Studies run, but something is slower, or missing, or at risk."""
    FAIL = "fail"
    """Studies cannot run, or would be damaged."""


@dataclass(frozen=True)
class Check:
    """The answer to one question."""

    name: str
    level: Level
    found: str
    advice: str = ""
    """What to do; only where the level is not ok."""


Question = tuple[str, Callable[[], Iterable[Check]]]


def examine(paths: CampaignPaths) -> Iterator[Check]:
    """Answer every question about this machine, each as soon as it is known.

    Changes nothing but a probe file beside the runs, which is removed again.

    Args:
        paths: The runs folder, which may not exist yet.
    """
    from vbot_campaign.watch import doctor_machine as machine
    from vbot_campaign.watch import doctor_runs as runs
    from vbot_campaign.watch import doctor_software as software

    questions: Sequence[Question] = (
        ("Python", software.python),
        ("packages", software.packages),
        ("torch", software.torch),
        ("GPUs", machine.gpus),
        ("cores", machine.cores),
        ("memory", machine.memory),
        ("mujoco", software.mujoco),
        ("motrixsim", software.motrixsim),
        ("renderer", software.renderer),
        ("file system", lambda: runs.file_system(paths)),
        ("disk space", lambda: runs.space(paths)),
        ("disk speed", lambda: runs.speed(paths)),
        ("clock", machine.clock),
        ("ports", machine.ports),
        ("database", lambda: runs.database(paths)),
    )
    for name, ask in questions:
        yield from answers(name, ask)


def answers(name: str, ask: Callable[[], Iterable[Check]]) -> list[Check]:
    """Return the answers to a question; a question that cannot be asked on this machine is a warning."""
    try:
        return list(ask())
    except Exception as error:  # whatever is strange about a machine, the other questions still matter
        return [Check(name, Level.WARN, f"cannot be examined: {type(error).__name__}: {error}", "See above; go on.")]


def is_fit(checks: Iterable[Check]) -> bool:
    """Tell whether nothing failed."""
    return all(check.level is not Level.FAIL for check in checks)


def render_check(check: Check) -> str:
    """Return an answer as lines of at most 80 columns, paths apart."""
    head = f"{check.level.value:<5}{check.name:<{_NAME}}"
    indent = " " * len(head)
    options: dict[str, Any] = {"width": _WIDTH, "break_long_words": False, "break_on_hyphens": False}
    lines = textwrap.wrap(check.found, initial_indent=head, subsequent_indent=indent, **options) or [head.rstrip()]
    if check.advice:
        lines += textwrap.wrap(check.advice, initial_indent=f"{indent}-> ", subsequent_indent=f"{indent}   ", **options)
    return "\n".join(lines)


def render_verdict(checks: Sequence[Check]) -> str:
    """Return one line over all answers."""
    failed = [check.name for check in checks if check.level is Level.FAIL]
    warned = [check.name for check in checks if check.level is Level.WARN]
    care = f" Worth a look: {', '.join(warned)}." if warned else ""
    return f"Not fit to run studies: {', '.join(failed)}.{care}" if failed else f"Fit to run studies.{care}"


def doctor_json(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the answers as plain values, under a schema version."""
    return {"schema_version": DOCTOR_SCHEMA, "fit": is_fit(checks), "checks": [asdict(check) for check in checks]}
