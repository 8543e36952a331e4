"""Tell the story of trials and studies: show, compare, best, summary, notes, tags, history."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vbot_campaign.cli.app import StudyName, app, campaign_paths

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vbot_campaign.watch.page import Block

Trial = Annotated[int, typer.Argument(metavar="TRIAL", help="Number of the trial.", min=0)]
MarkdownFlag = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]


@app.command()
def show(name: StudyName, trial: Trial, markdown: MarkdownFlag = False) -> None:
    """Tell a trial's story: parameters, score, attempts, checkpoints, reward terms, warnings, files."""
    from vbot_campaign.study import load_snapshot
    from vbot_campaign.study.annotations import read_annotations
    from vbot_campaign.watch.trial_story import trial_story

    paths = campaign_paths()
    snapshot = load_snapshot(paths, name)
    snapshot.trial(trial)
    _print(trial_story(paths, snapshot, trial, read_annotations(paths, name)), markdown)


@app.command()
def compare(
    name: StudyName,
    trials: Annotated[list[int], typer.Argument(metavar="TRIAL", help="Two trials or more.", min=0)],
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Picture of their curves to write.")] = None,
    markdown: MarkdownFlag = False,
) -> None:
    """Compare trials: parameters that differ, metrics at equal env steps, peaks, reward terms."""
    from vbot_campaign.study import load_snapshot
    from vbot_campaign.watch.comparison import compare_trials, comparison_page

    paths = campaign_paths()
    compared = compare_trials(paths, load_snapshot(paths, name), trials)
    _print(comparison_page(compared), markdown)
    if plot is not None:
        from vbot_campaign.watch.curve_plot import save_curves

        save_curves(plot, compared)
        typer.echo(f"\nwrote {plot}", err=markdown)


@app.command()
def best(
    name: StudyName,
    path: Annotated[bool, typer.Option("--path", help="Print only the path of its policy.")] = False,
) -> None:
    """Show the best trial, where its policy lies and how to use it."""
    from vbot_campaign.study import load_snapshot
    from vbot_campaign.watch.handover import best_checkpoint, best_page

    paths = campaign_paths()
    snapshot = load_snapshot(paths, name)
    if path:
        typer.echo(best_checkpoint(paths, snapshot).as_posix())
    else:
        _print(best_page(paths, snapshot))


@app.command()
def summary(name: StudyName, markdown: MarkdownFlag = False) -> None:
    """Sum a study up for a hand-over: what was searched, result, top trials, failures, alerts, cost."""
    from vbot_campaign.study import load_snapshot
    from vbot_campaign.study.annotations import read_annotations
    from vbot_campaign.watch.handover import summary_page

    paths = campaign_paths()
    snapshot = load_snapshot(paths, name)
    _print(summary_page(paths, snapshot, read_annotations(paths, name)), markdown)


@app.command()
def note(
    name: StudyName,
    trial: Trial,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The note; '-' reads it from stdin.")] = None,
    append: Annotated[bool, typer.Option("--append", help="Keep what is there and add a paragraph.")] = False,
) -> None:
    """Write a trial's note, or print it. The dashboard shows the same note."""
    from vbot_campaign.study import load_snapshot
    from vbot_campaign.study.annotations import read_annotations, write_note

    paths = campaign_paths()
    if text is None:
        load_snapshot(paths, name).trial(trial)
        _echo(read_annotations(paths, name).notes.get(trial, f"trial {trial} of {name} has no note"))
        return
    written = write_note(paths, name, trial, sys.stdin.read() if text == "-" else text, append=append)
    _echo(f"trial {trial} of {name} has {'a note' if written else 'no note'} now")


@app.command()
def tag(
    name: StudyName,
    trial: Trial,
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG", help="Tags to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="TAG", help="Tag to take away.")] = None,
) -> None:
    """Add tags to a trial, take some away, or print them."""
    from vbot_campaign.study.annotations import change_tags, read_annotations

    paths = campaign_paths()
    if tags or remove:
        have = change_tags(paths, name, trial, add=tags or [], remove=remove or [])
    else:
        from vbot_campaign.study import load_snapshot

        load_snapshot(paths, name).trial(trial)
        have = read_annotations(paths, name).tags.get(trial, ())
    _echo(f"trial {trial} of {name}: {', '.join(have) or 'no tags'}")


@app.command()
def history(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Study file; past trials near its priors are listed.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Trials to list.", min=1, max=10_000)] = 20,
    markdown: MarkdownFlag = False,
) -> None:
    """List the trials of all studies, best first; or those most similar to what a study file would start with."""
    from vbot_campaign.watch.history import all_trials_page, load_past, similar_page

    past = load_past(campaign_paths())
    if file is None:
        _print(all_trials_page(past, limit), markdown)
        return
    from vbot_campaign.spec.loading import load_study

    _print(similar_page(past, load_study(file), limit), markdown)


def _print(blocks: Iterable[Block], markdown: bool = False) -> None:
    from vbot_campaign.watch.page import render_markdown, render_text

    _echo(render_markdown(blocks) if markdown else render_text(blocks))


def _echo(text: str) -> None:
    # A terminal that knows only ASCII gets question marks, not a traceback.
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, "replace").decode(encoding))
