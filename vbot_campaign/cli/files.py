"""The files that people write: make one from a template, check it, print its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vbot_campaign.cli.app import app, campaign_paths
from vbot_campaign.errors import SpecError

if TYPE_CHECKING:
    from vbot_campaign.spec.describe import StudyPlan
    from vbot_campaign.spec.study import StudySpec

AnyFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A study, training, plan, search space or reward file, of any name.")
]


@app.command()
def check(file: AnyFile) -> None:
    """Validate a file of any kind and show what it would run."""
    from vbot_campaign.spec.document import read_document
    from vbot_campaign.spec.kinds import KINDS, kind_of

    document = read_document(file)
    kind = kind_of(document.value)
    if kind is None:
        names = ", ".join(f"{one.name_key} ({one.words})" for one in KINDS.values() if one.name_key)
        raise SpecError(
            f"{file}: cannot tell what it is. Begin it with one of {names}; a search space has search_space and "
            "presets, a reward file reward."
        )
    if kind.name == "study":
        _check_study(file)
    else:
        typer.echo(_rendered(kind.name, file))


def _check_study(file: Path) -> None:
    from vbot_campaign.spec.describe import render, render_warning
    from vbot_campaign.spec.loading import load_study
    from vbot_campaign.supervisor.warm_start import warm_start_problem

    spec = load_study(file)
    typer.echo(render(study_plan(spec)))
    if (problem := warm_start_problem(campaign_paths(), spec, file.parent)) is not None:
        typer.echo(f"\n{render_warning(problem)}")


def _rendered(kind: str, file: Path) -> str:
    from vbot_campaign.spec import describe_files
    from vbot_campaign.spec.document import read_document
    from vbot_campaign.spec.loading import load_plan, load_training
    from vbot_campaign.spec.reward_file import read_rewards
    from vbot_campaign.spec.search_file import read_search_space

    if kind == "training":
        return describe_files.render_training(load_training(file))
    if kind == "plan":
        return describe_files.render_plan(load_plan(file))
    if kind == "search_space":
        return describe_files.render_search_space(read_search_space(read_document(file)))
    return describe_files.render_rewards(read_rewards(read_document(file)))


def study_plan(spec: StudySpec) -> StudyPlan:
    """Return what a study would run on this machine."""
    from vbot_campaign.spec.describe import describe
    from vbot_campaign.supervisor.slots import discover_slots
    from vbot_campaign.watch.speed import expected_speed

    slots = discover_slots(spec.workers)
    return describe(spec, slots=len(slots), env_steps_per_s=expected_speed(campaign_paths(), spec, slots))


@app.command()
def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="study, training, plan, search-space or reward.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name; also that of the file.")],
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="TEMPLATE", help="Name of a file in templates/, or any file of the kind."),
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="File to write (default: studies/NAME.yaml).")
    ] = None,
) -> None:
    """Copy a template and fill in its name. A file that is there already stays as it is."""
    from vbot_campaign.spec.kinds import get_kind
    from vbot_campaign.spec.templates import new_file

    path, template = new_file(kind, name, source, target)
    used = get_kind(kind.replace("-", "_"))
    typer.echo(f"wrote {path.as_posix()}, {used.words} made from {template.name}")
    typer.echo(f"edit it, then: vbot-campaign check {path.as_posix()}")
    if (use := used.use.replace("FILE", path.as_posix())) != f"vbot-campaign check {path.as_posix()}":
        typer.echo(f"and then:      {use}")


@app.command()
def schema(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="study, training, plan, search-space or reward.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write KIND.schema.json there; all kinds if none is named.")
    ] = None,
) -> None:
    """Print the JSON schema by which editors complete and check a kind of file, or write it to a folder."""
    from vbot_campaign import fs
    from vbot_campaign.spec.kinds import KINDS, get_kind
    from vbot_campaign.spec.schema import json_schema

    kinds = [get_kind(kind.replace("-", "_")).name] if kind is not None else list(KINDS)
    if out is None and kind is None:
        raise SpecError(f"schema: name a kind ({', '.join(kinds)}), or --out DIR to write all of them.")
    for name in kinds:
        text = json.dumps(json_schema(name), indent=2)
        if out is None:
            typer.echo(text)
        else:
            fs.write_text(out / f"{name}.schema.json", f"{text}\n")
            typer.echo(f"wrote {(out / f'{name}.schema.json').as_posix()}")
