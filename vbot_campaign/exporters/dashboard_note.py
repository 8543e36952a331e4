"""The note of a study in optuna-dashboard: its definition, and the ways to its other pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vbot_campaign.exporters.plain_yaml import plain
from vbot_campaign.spec import groups
from vbot_campaign.spec.describe import describe
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.trainer import trainer_words
from vbot_campaign.study.snapshot import StudySnapshot

RULE = "*Above this line vbot-campaign writes; below it the note is yours.*"


def render(snapshot: StudySnapshot) -> str:
    """Return the definition of a study as Markdown."""
    spec = snapshot.spec
    name = spec.study
    lines = [
        f"## {name}",
        "",
        f"[Report](/reports/{name}) · [TensorBoard](/tensorboard) · files in `runs/{name}/`",
        "",
        *(f"* **{title}**: {text}" for title, text in _facts(snapshot)),
        "",
        "| searched | kind | range | first trial |",
        "|---|---|---|---|",
        *_space(spec),
    ]
    refused = [f"* `{c.skip_if}`{f' ({c.reason})' if c.reason else ''}" for c in spec.constraints]
    if refused:
        lines += ["", "Drawn again instead of trained:", "", *refused]
    return "\n".join(lines)


def combine(ours: str, found: str) -> str:
    """Return our part of a note followed by what a person wrote.

    Args:
        ours: From `render`.
        found: The note as it is; what is below the rule is kept, or all of it where it has no rule.
    """
    theirs = found.partition(RULE)[2] if RULE in found else found
    return f"{ours}\n\n---\n{RULE}\n\n{theirs.strip()}".rstrip() + "\n"


def _facts(snapshot: StudySnapshot) -> Iterator[tuple[str, str]]:
    spec, budget = snapshot.spec, snapshot.spec.budget
    yield "task", f"`{spec.environment}` in `{spec.physics}`, trained by {trainer_words(spec.trainer)}"
    yield "trial", f"{spec.env_steps_per_trial:,} env steps, {spec.workers.num_envs} robots, seed {spec.seed}"
    limits = [f"{budget.trials} trials"] if budget.trials else []
    limits += [f"{budget.hours:g} hours"] if budget.hours else []
    limits += [f"{budget.gpu_hours:g} GPU-hours"] if budget.gpu_hours else []
    limits += [f"{budget.env_steps:,} env steps"] if budget.env_steps else []
    yield "budget", " or ".join(limits)
    terms = spec.objective.terms()
    yield "score", " + ".join(f"{term.weight:g} × {_mapped(name, spec)}" for name, term in terms.items())
    yield "sampler, pruner", f"{spec.sampler.name} (seed {spec.sampler.seed}), {spec.pruner.name}"
    if snapshot.warm_start is not None:
        yield "every trial starts from", str(snapshot.warm_start)
    if fixed := _fixed(spec):
        yield "fixed, other than the default", ", ".join(f"`{key}` {value}" for key, value in fixed.items())


def _mapped(name: str, spec: StudySpec) -> str:
    term = spec.objective.terms()[name]
    share = name if term.scale == 1 else f"{name} / {term.scale:g}"
    return f"(1 - {share})" if term.invert else share


def _space(spec: StudySpec) -> Iterator[str]:
    for dimension in describe(spec, slots=1, env_steps_per_s=1.0).dimensions:
        when = f", when {dimension.when}" if dimension.when else ""
        prior = "" if dimension.prior is None else f"{dimension.prior}"
        cells = (f"`{dimension.name}`", dimension.kind, f"{dimension.range}{when}", prior)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _fixed(spec: StudySpec) -> dict[str, Any]:
    defaults = groups.defaults(get_environment(spec.environment))
    values = {f"{group}.{name}": value for group, entries in spec.fixed.items() for name, value in entries.items()}
    return {name: value for name, value in values.items() if plain(value) != plain(defaults.get(name))}
