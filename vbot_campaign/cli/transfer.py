"""Carry what was learnt over: points into a queue, a space around a champion, which parameters matter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vbot_campaign.cli.app import StudyName, app, campaign_paths
from vbot_campaign.errors import SpecError, StudyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vbot_campaign.paths import CampaignPaths
    from vbot_campaign.spec.point_file import Candidate
    from vbot_campaign.spec.study import StudySpec

DEFAULT_TOP = 3

FileOrName = Annotated[str, typer.Argument(metavar="NAME|FILE", help="Name of a study, or a study file.")]


@app.command()
def enqueue(
    study: FileOrName,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="STUDY[:4,7]", help="Trials of another study; its best without numbers."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON or YAML with hp_config, reward_config, env_config.")
    ] = None,
    reward: Annotated[str | None, typer.Option(metavar="ENTRY", help="Weights of the reward library.")] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help=f"How many of the best (default: {DEFAULT_TOP} of a study, all of a file)."),
    ] = None,
    clip: Annotated[
        bool, typer.Option("--clip/--refuse", help="Move values into their range, or leave such a point out.")
    ] = False,
    renames: Annotated[
        list[str] | None, typer.Option("--map", metavar="OLD=NEW", help="A name in the file, and ours.")
    ] = None,
) -> None:
    """Have points of elsewhere trained next: of another study, a file or the reward library.

    A study file that was never run is stored first, so that its first trials are these.
    """
    from vbot_campaign.campaign.transfer import enqueue_points
    from vbot_campaign.watch.page import render_text
    from vbot_campaign.watch.transfer_lines import enqueued_page

    if sum(given is not None for given in (source, file, reward)) != 1:
        raise SpecError("enqueue: give one of --from STUDY, --file FILE and --reward ENTRY.")
    if renames and file is None:
        raise SpecError("--map: renames what stands in a --file; trials and the library have our names.")
    if top is not None and (reward is not None or (source is not None and ":" in source)):
        raise SpecError(f"--top {top}: chooses among a study's trials or a file's points; leave it out here.")
    paths = campaign_paths()
    name = _stored(paths, study)
    points = _points(paths, name, source, file, reward, top, renames or ())
    done = enqueue_points(paths, name, points, clip=clip)
    typer.echo(render_text(enqueued_page(done)))
    if all(point.refused for point in done.points):
        can_clip = any(point.can_clip for point in done.points)
        hint = " Values out of range can be moved into it with --clip." if can_clip else ""
        raise StudyError(f"study '{name}': nothing was queued.{hint}")


def _points(
    paths: CampaignPaths,
    name: str,
    source: str | None,
    file: Path | None,
    reward: str | None,
    top: int | None,
    renames: Sequence[str],
) -> list[Candidate]:
    from vbot_campaign.campaign.transfer import from_file, from_library, from_study
    from vbot_campaign.exporters.reward_library import read_entry

    if source is not None:
        return from_study(paths, source, top or DEFAULT_TOP)
    if file is not None:
        return from_file(paths, name, file, renames, top)
    return [from_library(str(reward), read_entry(paths, str(reward)))]


def _stored(paths: CampaignPaths, text: str) -> str:
    """Return the name of a study; one in a file is stored first."""
    if not _is_file(text):
        return text
    from vbot_campaign.spec.loading import load_study
    from vbot_campaign.study.study import is_stored
    from vbot_campaign.supervisor import create_study

    spec = load_study(Path(text))
    if not is_stored(paths, spec.study):
        create_study(paths, spec, folder=Path(text).parent)
        typer.echo(f"stored study {spec.study}, which was never run")
    return spec.study


def _is_file(text: str) -> bool:
    return Path(text).suffix in (".yaml", ".yml") or Path(text).is_file()


@app.command()
def space(
    study: FileOrName,
    around: Annotated[str, typer.Option(metavar="STUDY:TRIAL", help="The trial in the middle.")],
    width: Annotated[float, typer.Option(help="Share of each range that the new one has.", min=0.0, max=1.0)] = 0.5,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Let ranges end outside of the old ones.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Study file to write, named after the file; else the space is printed."),
    ] = None,
) -> None:
    """Narrow a search space around a trial, whose values become the priors."""
    from vbot_campaign.campaign.narrowing import narrow_study
    from vbot_campaign.spec.narrowing import space_text

    paths = campaign_paths()
    narrow = narrow_study(paths, _study_spec(paths, study), around, width, allow_outside=allow_outside)
    for line in narrow.notes:
        typer.echo(line, err=True)
    if output is None:
        typer.echo(f"# {narrow.words}\n{space_text(narrow.spec)}", nl=False)
        return
    name = narrow.write(output)
    typer.echo(f"wrote {output.as_posix()}, study {name}. Look at it: vbot-campaign check {output.as_posix()}")


def _study_spec(paths: CampaignPaths, text: str) -> StudySpec:
    if _is_file(text):
        from vbot_campaign.spec.loading import load_study

        return load_study(Path(text))
    from vbot_campaign.spec.narrowing import without_defaults
    from vbot_campaign.study import load_snapshot

    return without_defaults(load_snapshot(paths, text).spec)


@app.command()
def importance(
    name: StudyName,
    method: Annotated[str, typer.Option(help="pedanova, or fanova (needs the extra fanova).")] = "pedanova",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show which parameters decide the score, and which may be fixed at what value."""
    from vbot_campaign.study import load_snapshot
    from vbot_campaign.watch.importance_table import importance_json, importance_page
    from vbot_campaign.watch.page import render_text

    snapshot = load_snapshot(campaign_paths(), name)
    if as_json:
        typer.echo(importance_json(snapshot, method))
    else:
        typer.echo(render_text(importance_page(snapshot, method)))
