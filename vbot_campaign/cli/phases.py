"""What follows a search: confirm its best trials on fresh seeds, extend them to a long budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vbot_campaign.cli.app import StudyName, app, campaign_paths
from vbot_campaign.errors import StudyBusyError

if TYPE_CHECKING:
    from vbot_campaign.campaign.confirm import Confirmed
    from vbot_campaign.study.snapshot import StudySnapshot
    from vbot_campaign.supervisor import Outcome


@app.command()
def confirm(
    name: StudyName,
    top: Annotated[int | None, typer.Option(help="Best trials to train again.", min=1, max=100)] = None,
    seeds: Annotated[int | None, typer.Option(help="Fresh training seeds for each.", min=1, max=100)] = None,
    env_steps: Annotated[
        str | None, typer.Option(metavar="COUNT", help="Env steps of each training (default: as in the search).")
    ] = None,
) -> None:
    """Train the best trials again on fresh seeds and choose by the lower end; or go on with it, or show it.

    Options left out are those it was begun with, else those of `confirm` in the study file, else 3 trials and 5 seeds.
    """
    from vbot_campaign.spec.counts import parse_count

    steps = None if env_steps is None else parse_count("--env-steps", env_steps)
    given = {"top": top, "seeds": seeds, "env_steps": steps}
    found = _confirm(name, {key: value for key, value in given.items() if value is not None})
    raise typer.Exit(found.exit_code)


@app.command()
def extend(
    name: StudyName,
    env_steps: Annotated[
        str, typer.Option(metavar="COUNT", help="Env steps in the end, with what is trained already: 50M.")
    ],
    top: Annotated[int | None, typer.Option(help="The best trials, by score.", min=1, max=100)] = None,
    trials: Annotated[str | None, typer.Option(metavar="N,N", help="Or these trials.")] = None,
    schedule: Annotated[
        Literal["continue", "restart"],
        typer.Option(help="Learning rate: go on from where it was, or begin its schedule anew."),
    ] = "continue",
    lr_factor: Annotated[
        float, typer.Option(metavar="SHARE", help="With restart: share of the first learning rate.")
    ] = 1.0,
    stop_on_collapse: Annotated[
        bool, typer.Option("--stop-on-collapse", help="End a training whose score collapses; its best policy stays.")
    ] = False,
) -> None:
    """Train the best trials on from their own last checkpoints to a longer budget."""
    from vbot_campaign.campaign.derived import derived_name
    from vbot_campaign.campaign.extend import extend_study
    from vbot_campaign.cli.studies import watched
    from vbot_campaign.spec.counts import parse_count

    paths = campaign_paths()
    numbers = _chosen(name, top, trials)
    steps = parse_count("--env-steps", env_steps)
    outcome = watched(
        derived_name(name, "extend"),
        lambda **options: extend_study(
            paths,
            name,
            trials=numbers,
            env_steps=steps,
            schedule=schedule,
            factor=lr_factor,
            stop_on_collapse=stop_on_collapse,
            **options,
        ),
    )
    raise typer.Exit(outcome.exit_code)


def go_on_after(name: str, outcome: Outcome, *, shared: bool = False) -> int:
    """Go on with what follows a search that is over: the confirmation it asks for, and what else was begun.

    Args:
        name: The study.
        outcome: Of its search.
        shared: Whether other supervisors searched too.

    Returns:
        The exit code of the whole.
    """
    from vbot_campaign.campaign.confirm import confirmation_is_over
    from vbot_campaign.campaign.derived import derived_name, is_done, is_over, load_derived
    from vbot_campaign.campaign.extend import PHASE, resume_extension
    from vbot_campaign.cli.studies import watched

    paths = campaign_paths()
    if not is_over(paths, outcome.snapshot):
        return outcome.exit_code
    confirmed = confirm_search(name, shared=shared)
    code = outcome.exit_code if confirmed is None else confirmed.exit_code
    if confirmed is not None and not confirmation_is_over(paths, name):
        return code
    begun = load_derived(paths, name, PHASE)
    if begun is None and name.endswith(".stage"):
        typer.echo("The long training of the stage has not begun: run its file again with --mode stage.")
    if begun is None or is_done(begun):
        return code
    typer.echo(f"\n{_going_on(begun, 'extension')}")
    extended = watched(derived_name(name, PHASE), lambda **options: resume_extension(paths, name, **options))
    return max(code, extended.exit_code)


def confirm_search(name: str, *, shared: bool = False) -> Confirmed | None:
    """Confirm the best trials of a study whose search is over, if it asks for that or if that was begun.

    Several supervisors come here together where they shared the search: one confirms, None is returned to the others.
    """
    from vbot_campaign.campaign.confirm import PHASE, wanted_confirmation
    from vbot_campaign.campaign.derived import is_done, load_derived

    paths = campaign_paths()
    wanted, begun = wanted_confirmation(paths, name), load_derived(paths, name, PHASE)
    if wanted is None:
        return None
    typer.echo()
    if begun is None:
        typer.echo(
            f"study {name}: the search is over; the best {wanted['top']} on {wanted['seeds']} fresh seeds follow"
        )
    elif not is_done(begun):
        typer.echo(_going_on(begun, "confirmation"))
    try:
        return _confirm(name, {})
    except StudyBusyError as busy:
        if not shared:
            raise
        typer.echo(f"study {name}: another of its supervisors does the confirmation. {busy}")
        return None


def _going_on(begun: StudySnapshot, what: str) -> str:
    ended = sum(trial.state.is_finished for trial in begun.trials)
    parent = begun.parent.study if begun.parent is not None else ""
    trainings = "training has" if ended == 1 else "trainings have"
    return f"study {parent}: goes on with its {what}, study {begun.spec.study}; {ended} {trainings} ended"


def confirmed_study(name: str) -> str | None:
    """Return the study whose confirmation a study is; None for any other."""
    from vbot_campaign.campaign.confirm import PHASE
    from vbot_campaign.study.reading import read_snapshot

    parent = read_snapshot(campaign_paths(), name).parent
    return parent.study if parent is not None and parent.phase == PHASE else None


def resume_confirmation(name: str) -> int:
    """Go on with the confirmation of a study and return the exit code."""
    return _confirm(name, {}).exit_code


def running_part(name: str) -> str:
    """Return which study to stop where a study is meant: itself, or what was made from it and runs just now."""
    from vbot_campaign.campaign.derived import load_derived
    from vbot_campaign.study.reading import read_snapshot

    paths = campaign_paths()
    if read_snapshot(paths, name).supervisor is not None:
        return name
    parts = (load_derived(paths, name, phase) for phase in ("confirm", "extend"))
    return next((part.spec.study for part in parts if part is not None and part.supervisor is not None), name)


def _confirm(name: str, given: dict[str, int]) -> Confirmed:
    from vbot_campaign.campaign.confirm import confirm_study, wanted_confirmation
    from vbot_campaign.campaign.derived import derived_name
    from vbot_campaign.cli.app import launcher_options
    from vbot_campaign.cli.studies import observers_of
    from vbot_campaign.spec.study import ConfirmSettings
    from vbot_campaign.watch.confirm_table import confirm_page
    from vbot_campaign.watch.page import render_text

    paths = campaign_paths()
    values = {**(wanted_confirmation(paths, name) or ConfirmSettings().model_dump()), **given}
    with observers_of(derived_name(name, "confirm")) as observers:
        found = confirm_study(paths, name, **values, observers=observers, **launcher_options())
    typer.echo(render_text(confirm_page(found)))
    return found


def _chosen(name: str, top: int | None, trials: str | None) -> list[int]:
    from vbot_campaign.campaign.derived import best_trials
    from vbot_campaign.errors import SpecError
    from vbot_campaign.study import load_snapshot

    if (top is None) == (trials is None):
        raise SpecError(f"extend {name}: say which trials: --top 3 for the best by score, or --trials 4,7.")
    if trials is None:
        return best_trials(load_snapshot(campaign_paths(), name), top or 1)
    try:
        return [int(number) for number in trials.split(",")]
    except ValueError:
        raise SpecError(f"--trials {trials}: expected numbers of trials with commas between, such as 4,7.") from None
