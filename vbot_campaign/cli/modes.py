"""What ``run`` does with its options: a study file as it is, in one of the modes, or a plan."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vbot_campaign.errors import SpecError

if TYPE_CHECKING:
    from vbot_campaign.campaign.modes import Mode
    from vbot_campaign.paths import CampaignPaths
    from vbot_campaign.spec.budget import Total
    from vbot_campaign.spec.plan import PlanSpec
    from vbot_campaign.spec.study import StudySpec
    from vbot_campaign.supervisor import Outcome

Watched = Callable[..., "Outcome"]
"""Runs a supervisor, given a study's name, its start and warnings to show."""


@dataclass(frozen=True)
class Chosen:
    """The options of ``run``."""

    file: Path | None
    mode: str | None
    totals: Mapping[Total, str]
    """Of the budget."""
    full_env_steps: str | None
    warm_start: Path | None
    audit: bool


def run(paths: CampaignPaths, chosen: Chosen, watched: Watched, *, shared: bool = False) -> int:
    """Run what was chosen to its end and return the exit code.

    Raises:
        CampaignError: The options do not go together, or what they name cannot be run.
    """
    from vbot_campaign.campaign.modes import parse_mode

    mode = None if chosen.mode is None else parse_mode(chosen.mode)
    if chosen.full_env_steps is not None and mode != "stage":
        raise SpecError(
            f"--full-env-steps {chosen.full_env_steps}: is for --mode stage, which trains the best trial on."
        )
    if mode == "eval":
        return _evaluate(paths, chosen)
    if chosen.file is None:
        raise SpecError("run: name a file, such as studies/quickstart.yaml; only --mode eval does without.")
    if mode == "full":
        return _run_plan(paths, chosen, chosen.file)
    return _run_study(paths, chosen, chosen.file, mode, watched, shared)


def _run_study(
    paths: CampaignPaths, chosen: Chosen, file: Path, mode: Mode | None, watched: Watched, shared: bool
) -> int:
    from vbot_campaign.campaign.modes import derive, run_mode
    from vbot_campaign.cli import phases
    from vbot_campaign.cli.files import study_plan
    from vbot_campaign.spec.counts import parse_count
    from vbot_campaign.spec.describe import render_warning
    from vbot_campaign.spec.physics import require_engine
    from vbot_campaign.supervisor import run_study
    from vbot_campaign.supervisor.reward_audit import StartAudit
    from vbot_campaign.watch.program import program

    spec = _study(chosen, file)
    search = spec if mode is None else derive(spec, mode)
    require_engine(spec.physics)
    warnings = [render_warning(warning) for warning in study_plan(search).warnings]
    audit = StartAudit(f"Whole report: {program()} audit {file}") if chosen.audit else None

    def start(**options: Any) -> Outcome:
        return run_study(paths, spec, folder=file.parent, audit=audit, **options)

    def supervise(name: str, begin: Callable[..., Outcome]) -> Outcome:
        # The reward and the study's warnings are the search's; a training that goes on has nothing new to say.
        first = name == search.study
        return watched(
            name, lambda **more: begin(**{**more, **({"audit": audit} if first else {})}), warnings if first else ()
        )

    if mode is None:
        return phases.go_on_after(spec.study, watched(spec.study, start, warnings), shared=shared)
    steps = None if chosen.full_env_steps is None else parse_count("--full-env-steps", chosen.full_env_steps)
    outcome = run_mode(
        paths,
        spec,
        mode,
        folder=file.parent,
        full_env_steps=steps,
        supervise=supervise,
        confirm=functools.partial(phases.confirm_search, shared=shared),
    )
    return outcome.exit_code


def _study(chosen: Chosen, file: Path) -> StudySpec:
    from vbot_campaign.spec.budget import with_totals
    from vbot_campaign.spec.checks import study_problems
    from vbot_campaign.spec.loading import load_study, with_warm_start
    from vbot_campaign.spec.trainable import require

    spec = load_study(file)
    if chosen.totals:
        spec = spec.model_copy(update={"budget": with_totals(spec.budget, chosen.totals)})
        require(study_problems(spec))
    return spec if chosen.warm_start is None else with_warm_start(spec, chosen.warm_start)


def _run_plan(paths: CampaignPaths, chosen: Chosen, file: Path) -> int:
    from vbot_campaign.cli.campaigns import run_plan
    from vbot_campaign.spec.loading import load_plan

    if "trials" in chosen.totals:
        raise SpecError(f"--trials {chosen.totals['trials']}: a plan says it for each stage (search.trials).")
    if chosen.warm_start is not None:
        raise SpecError("--warm-start: a plan says it for each stage (warm_start).")
    return run_plan(paths, _with_totals(load_plan(file), chosen.totals), file.parent)


def _with_totals(plan: PlanSpec, totals: Mapping[Total, str]) -> PlanSpec:
    from vbot_campaign.spec.budget import parse_total

    changed: dict[str, float] = {total: parse_total(total, text) for total, text in totals.items()}
    return plan.model_copy(update={"budget": plan.budget.model_copy(update=changed)})


def _evaluate(paths: CampaignPaths, chosen: Chosen) -> int:
    from vbot_campaign.exporters.registry_evaluation import evaluate_registry
    from vbot_campaign.spec.budget import FLAGS
    from vbot_campaign.watch.page import render_text
    from vbot_campaign.watch.registry_table import registry_page

    given = [FLAGS[total] for total in chosen.totals]
    given += ["--warm-start"] if chosen.warm_start is not None else []
    if given:
        raise SpecError(f"--mode eval: trains nothing; leave {', '.join(given)} out.")
    name = None if chosen.file is None else _name_in(chosen.file)
    typer.echo(render_text(registry_page(evaluate_registry(paths, name, say=typer.echo))))
    return 0


def _name_in(file: Path) -> str:
    from vbot_campaign.spec.loading import load_study

    return load_study(file).study
