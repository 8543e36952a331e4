"""Measures what a policy can do, by a real evaluation in a process that may load torch."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbot_campaign.campaign.state import GateResult
from vbot_campaign.errors import CheckpointError
from vbot_campaign.paths import StudyPaths
from vbot_campaign.spec.plan import LOWER_IS_BETTER, Gate, PlanSpec, Stage
from vbot_campaign.spec.stages import gate_steps
from vbot_campaign.study.snapshot import TrialView
from vbot_campaign.supervisor.warm_start import policy_of

EVALUATE_COMMAND = (sys.executable, "-m", "vbot_campaign.cli", "evaluate")
"""Plays a policy and prints what became of it as JSON."""
POLL_S = 0.1


class InterruptedEvaluationError(Exception):
    """Someone asked the campaign to stop while a policy was evaluated."""


@dataclass(frozen=True)
class _Measured:
    parts: dict[str, float]
    score: float
    episodes: int


def ask(
    plan: PlanSpec,
    stage: Stage,
    gate: Gate,
    study: StudyPaths,
    trial: TrialView,
    *,
    command: Sequence[str] = EVALUATE_COMMAND,
    interrupted: Callable[[], bool] = lambda: False,
) -> GateResult:
    """Measure the policies of a training that a gate looks at.

    The episodes have other seeds than those by which the best policy was chosen, and the same at each try.

    Args:
        plan: The plan.
        stage: The stage.
        gate: Its gate.
        study: Folder of the study that the training is in.
        trial: The training, at its end.
        command: Evaluates; `vbot-campaign evaluate` unless given.
        interrupted: Asked over and over whether to give up.

    Raises:
        InterruptedEvaluationError: ``interrupted`` said so.
        CheckpointError: A policy could not be evaluated.
    """
    began = time.monotonic()
    files = _policies(plan, stage, gate, trial)
    if files is None:
        return GateResult(0.0, {}, trial.score or 0.0, 0, 0.0, trial.env_steps, asked=False)
    arguments = [*command, "--episodes", str(gate.episodes), "--seeds", str(gate.seeds)]
    arguments += ["--seed", str(plan.evaluation.seed + 1), "--json"]
    measured = [_evaluate([*arguments, str(study.root / file)], study.root / file, interrupted) for file in files]
    values = [one.score if gate.metric == "score" else one.parts[gate.metric] for one in measured]
    worst = max(values) if gate.metric in LOWER_IS_BETTER else min(values)
    best = measured[0]
    seconds = time.monotonic() - began
    return GateResult(worst, best.parts, best.score, best.episodes, round(seconds, 1), trial.env_steps)


def _policies(plan: PlanSpec, stage: Stage, gate: Gate, trial: TrialView) -> list[str] | None:
    """Return the checkpoints to measure, the best one first; None where the training ended too early to be asked."""
    best = policy_of(trial, "best")
    if best is None or trial.env_steps < gate.min_env_steps:
        return None
    points = sorted((c.env_steps, c.path) for c in trial.checkpoints if c.kind == "resume")
    files = [best.path]
    for step in gate_steps(plan, stage):
        reached = next((path for env_steps, path in points if env_steps >= step), None)
        if reached is None:
            return None
        files.append(reached)
    return files


def _evaluate(command: Sequence[str], file: Path, interrupted: Callable[[], bool]) -> _Measured:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        # Out of reach of a Ctrl-C in the terminal, which is the campaign's to hear.
        process = subprocess.Popen(command, stdout=output, stderr=errors, start_new_session=True)
        try:
            while process.poll() is None:
                if interrupted():
                    raise InterruptedEvaluationError
                time.sleep(POLL_S)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        errors.seek(0)
        text, complaint = output.read().decode("utf-8", "replace"), errors.read().decode("utf-8", "replace")
    try:
        found = json.loads(text)
        return _Measured(found["parts"], float(found["score"]), int(found["episodes"]["finished"]))
    except (ValueError, KeyError, TypeError):
        last = (complaint.strip().splitlines() or ["nothing was printed"])[-1].removeprefix("error: ")
        raise CheckpointError(
            f"gate: {file} could not be evaluated (exit code {process.returncode}): {last} "
            "The campaign goes on from here when it is resumed."
        ) from None
