"""``python -m tests.benchmarks.search``: is our search better than random search, Optuna's and Ray Tune's?

Plays searches on recorded trainings (``four.json.gz``, ``ten.json.gz``) and prints a table for each. What the columns
mean and how the recordings are made is in ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import optuna

from tests.benchmarks.rows import Row, verdict
from tests.benchmarks.search.figures import (
    SHARES,
    Figures,
    beaten_by,
    figures_of,
    places_of_best,
    rank_correlations,
    ratio_of,
    seed_correlation,
    target_score,
)
from tests.benchmarks.search.searches import DEFAULT, OURS, RANDOM, searches
from tests.benchmarks.search.table import TABLE_FILE, TEN_FILE, Table, read_table
from tests.benchmarks.search.world import Played, World
from vbot_campaign.errors import CampaignError, SpecError

LEAST_CONFIGURATIONS = 6
RECORD = "python -m tests.benchmarks.search.record"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print, and return the exit code; whether the promises hold does not change it."""
    options = _parser().parse_args(arguments)
    try:
        files = options.table or [TABLE_FILE, TEN_FILE]
        tables = [read_table(file) for file in files]
        if options.live:
            from tests.benchmarks.search.live import run_live

            return run_live(options.live_runs, tables[0])
        for number, (file, table) in enumerate(zip(files, tables, strict=True)):
            if number:
                print()
            _replay(file, table, options)
        return 0
    except CampaignError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _replay(file: Path, table: Table, options: argparse.Namespace) -> None:
    _quiet()
    if min(options.repetitions, options.ray_repetitions) < 1:
        raise SpecError("--repetitions and --ray-repetitions: at least 1; an interval takes ten or more.")
    known = len(table.complete)
    print(f"{table.spec.study}: {table.words()}, {table.spec.env_steps_per_trial:,} env steps each")
    if known < LEAST_CONFIGURATIONS:
        raise SpecError(
            f"{file}: {known} configurations are too few to search; {LEAST_CONFIGURATIONS} are the least. "
            f"Train more with: {RECORD} --table {file}"
        )
    trials = full_trials(table)
    budget = 2 * trials * table.spec.env_steps_per_trial
    worlds = [World(table, repetition, budget) for repetition in range(options.repetitions)]
    targets = [target_score(world, trials) for world in worlds]
    _describe(worlds, trials, targets)
    rows: list[Figures] = []
    # A process for each core: a search alone takes minutes.
    with ProcessPoolExecutor(initializer=_quiet) as processes:
        for search in searches():
            played = processes.map(_play, repeat(search.name), repeat(table), range(len(worlds)), repeat(budget))
            rows.append(_figures(search.name, list(zip(worlds, played, strict=True)), targets, rows))
    if options.ray:
        _ray(table, targets[: options.ray_repetitions], budget, rows)
    print(f"\n{promises(rows)}")
    if table.missing:
        print(f"The table is PARTIAL, so nothing is settled. Go on with: {RECORD} --table {file}")


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _play(search: str, table: Table, repetition: int, budget: int) -> Played:
    return next(one for one in searches() if one.name == search).play(World(table, repetition, budget))


def full_trials(table: Table) -> int:
    """Return N: a third of the configurations.

    Half of all random orders of so many know one of the two or three best configurations; and a random search of twice
    as many trials, the budget, still finds free ones.
    """
    return max(2, len(table.complete) // 3)


def promises(rows: Sequence[Figures]) -> str:
    """Return whether the default keeps what is promised of it, and which of ours is the best."""
    by_name = {row.name: row for row in rows}
    default = by_name[DEFAULT]
    beaten = beaten_by(default, rows)
    share = ratio_of(default.steps, by_name[RANDOM].steps).median
    held = [
        Row("env steps, share of random's", share, "", 2, ceiling=1 / 3),
        Row("rows that beat the default", len(beaten), "", ceiling=1),
        Row("its winner was stopped", 100 * default.lost, "%", 1, ceiling=5),
    ]
    ours = [row for row in rows if row.name.startswith(OURS)]
    best = min(ours, key=lambda row: (row.interval.median, row.lost))
    lines = [verdict(held)]
    lines += [f"BEATEN by {row.name}: its median lies below the default's interval." for row in beaten]
    return "\n".join([*lines, f"Fewest env steps of ours: {best.name.removeprefix(OURS)}."])


def _describe(worlds: Sequence[World], trials: int, targets: Sequence[float]) -> None:
    table, budget = worlds[0].table, worlds[0].budget
    correlations = rank_correlations(table)
    scores = sorted(table.known[n, seed].score or 0.0 for n in table.complete for seed in table.seeds)
    print(f"scores {scores[0]:.3f} to {scores[-1]:.3f}, median {scores[len(scores) // 2]:.3f}")
    print(
        "order at a share of the training against the order at its end (Spearman): "
        + ", ".join(f"{share:.0%} {rho:.2f}" for share, rho in correlations.items())
        + f"; one seed against the other (Pearson): {seed_correlation(table):.2f}"
    )
    print(
        "the two best of a repetition are there among the best, in 95 % of all cases: "
        + ", ".join(f"{share:.0%} {place:.0%}" for share, place in places_of_best(worlds).items())
    )
    print(
        f"target {min(targets):.3f} to {max(targets):.3f}: what {trials} full random trials know in half of all orders "
        f"with a repetition's seeds; budget {budget / 1e6:g}M env steps; {len(targets)} repetitions"
    )
    shares = "".join(f"{f'at {share:.0%}':>8}" for share in SHARES)
    print(f"\n  {'search':<37}{'env steps to the target':>24}{'of random':>19}{'reached':>9}{shares}", end="")
    print(f"{'lost':>7}{'regret':>8}{'begun':>7}")


def _figures(
    name: str, played: Sequence[tuple[World, Played]], targets: Sequence[float], before: Sequence[Figures]
) -> Figures:
    row = figures_of(name, played, targets)
    steps = row.interval
    ratio = ratio_of(row.steps, (before[0] if before else row).steps[: len(row.steps)])
    median = f"{steps.median / 1e6:.1f}M [{steps.low / 1e6:.1f}, {steps.high / 1e6:.1f}]"
    of_random = f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" if before else "1"
    scores = "".join(f"{score:>8.3f}" for score in row.scores)
    print(f"  {name:<37}{median:>24}{of_random:>19}{row.reached:>9.0%}{scores}", end="")
    print(f"{row.lost:>7.0%}{row.regret:>8.3f}{row.begun:>7g}", flush=True)
    return row


def _ray(table: Table, targets: Sequence[float], budget: int, rows: list[Figures]) -> None:
    from tests.benchmarks.search.ray_tune import NAME, RayMissingError, play_ray

    worlds = [World(table, repetition, budget) for repetition in range(len(targets))]
    try:
        played = play_ray(worlds)
    except RayMissingError as error:
        print(f"  {NAME:<37} left out: {error}")
        return
    rows.append(_figures(NAME, list(zip(worlds, played, strict=True)), targets, rows))
    if len(targets) != len(rows[0].steps):
        print(f"  ({len(targets)} repetitions of Ray's; its share is of random's same ones)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=50, help="of each row, default 50")
    parser.add_argument("--ray-repetitions", type=int, default=10, help="of Ray Tune's row, default 10")
    parser.add_argument("--no-ray", dest="ray", action="store_false", help="leave Ray Tune out")
    parser.add_argument("--table", type=Path, action="append", help="default four.json.gz, then ten.json.gz")
    parser.add_argument("--live", action="store_true", help="train small studies instead of playing recorded ones")
    parser.add_argument("--live-runs", type=Path, default=Path("runs/search-live"), help="default runs/search-live")
    return parser


if __name__ == "__main__":
    sys.exit(main())
