"""Searches on a table small enough to be worked out by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from tests.benchmarks.search.__main__ import main, promises
from tests.benchmarks.search.figures import (
    Figures,
    best_known,
    figures_of,
    places_of_best,
    ratio_of,
    steps_to,
    target_score,
)
from tests.benchmarks.search.nearest import distance, nearest
from tests.benchmarks.search.optuna_alone import play_optuna
from tests.benchmarks.search.ours import play_ours
from tests.benchmarks.search.ray_tune import clocked
from tests.benchmarks.search.searches import DEFAULT, RANDOM, searches
from tests.benchmarks.search.table import Table, Training, write_table
from tests.benchmarks.search.world import Ended, Played, World
from tests.support.builders import study_spec
from vbot_campaign.spec.study import PrunerSettings, SamplerSettings, StudySpec
from vbot_campaign.study.halving import replay, rungs_of

STEPS = (100, 200, 300, 400)
AT_ALL = 420
"""Env steps of a whole training: the last iteration ends beyond the grid."""
RATES = (1e-5, 2.5e-5, 6.3e-5, 1.6e-4, 4e-4, 1e-3)
FINAL = (0.2, 0.3, 0.4, 0.9, 0.8, 0.1)
"""Scores at the end, by configuration; at every report they are in the same order."""


def spec() -> StudySpec:
    return study_spec(env_steps_per_trial=400, report_points=4)


def training(configuration: int, final: float | None, seed: int = 1) -> Training:
    quality = final if final is not None else 0.0
    curve = tuple((step, round(quality * step / 400, 6)) for step in STEPS)
    return Training(configuration, seed, curve, final, {}, AT_ALL, 1.0)


def table(finals: Mapping[int, float | None] | None = None) -> Table:
    known = {**dict(enumerate(FINAL)), **(finals or {})}
    points = tuple({"ppo.learning_rate": rate} for rate in RATES)
    return Table(spec(), points, (1,), tuple(training(number, final) for number, final in known.items()))


def random_search(world: World, **pruner: object) -> Played:
    return play_ours(world, SamplerSettings(name="random"), PrunerSettings.model_validate(pruner))


# --- the table ------------------------------------------------------------------------------------------------------


def test_distances_are_shares_of_a_range_or_of_its_logarithm() -> None:
    space = {
        "rate": FloatDistribution(1e-4, 1e-2, log=True),
        "weight": FloatDistribution(0.0, 10.0),
        "epochs": CategoricalDistribution([1, 2, 8]),
        "layers": CategoricalDistribution(["[64]", "[256]"]),
    }
    here = {"rate": 1e-3, "weight": 5.0, "epochs": 1, "layers": "[64]"}

    assert distance(space, here, {**here, "rate": 1e-2}) == pytest.approx(0.5)
    assert distance(space, here, {**here, "weight": 6.0}) == pytest.approx(0.1)
    assert distance(space, here, {**here, "epochs": 8}) == pytest.approx(1.0)
    assert distance(space, here, {**here, "layers": "[256]"}) == pytest.approx(1.0)
    assert distance(space, here, {**here, "rate": 1e-2, "weight": 5.0 + 10 * 0.75**0.5}) == pytest.approx(1.0)
    assert nearest(space, here, {3: {**here, "weight": 9.0}, 7: {**here, "epochs": 2}}) == 3


def test_a_configuration_is_taken_once() -> None:
    world = World(table(), repetition=0, budget=10_000)

    assert [world.take({"ppo.learning_rate": 1.5e-4}) for _ in range(6)] == [3, 2, 4, 1, 5, 0]
    assert not world.has_more


def test_a_configuration_that_lacks_a_seed_is_left_out() -> None:
    whole = table()
    partial = Table(whole.spec, whole.points, (1, 2), (*whole.trainings, training(3, 0.9, seed=2)))
    world = World(partial, repetition=0, budget=10_000)

    assert "PARTIAL table: 1 of 6 configurations x 2 seeds" in partial.words()
    assert partial.missing[:2] == [(0, 2), (1, 2)]
    assert world.take({"ppo.learning_rate": 1e-5}) == 3
    assert not world.has_more


# --- searches -------------------------------------------------------------------------------------------------------


def test_without_a_pruner_every_configuration_is_trained_to_its_end() -> None:
    played = random_search(World(table(), 3, budget=10_000), name="none")

    assert played.spent == 6 * AT_ALL
    assert [end.spent for end in played.ended] == [AT_ALL * count for count in range(1, 7)]
    assert sorted((end.configuration, end.score) for end in played.ended) == list(enumerate(FINAL))
    # The prior point of the study, 3e-4, is the first trial; 4e-4 is the nearest.
    assert played.drawn[0] == 4


def test_random_search_is_a_random_order_of_the_table_wherever_its_points_lie() -> None:
    # Three of them hide behind another one: hardly a random point is nearest to theirs.
    points = tuple({"ppo.learning_rate": rate} for rate in (1e-5, 1.001e-5, 1.002e-5, 1.003e-5, 3e-4, 1e-3))
    crowded = Table(spec(), points, (1,), tuple(training(number, 0.5) for number in range(6)))

    second = Counter(random_search(World(crowded, r, budget=10_000), name="none").drawn[1] for r in range(200))

    # After the one at the prior point, all others alike: 40 of 200, three standard deviations are 17.
    assert set(second) == {0, 1, 2, 3, 5}
    assert all(23 <= count <= 57 for count in second.values())
    pruned = random_search(World(crowded, 7, budget=10_000), name="rungs")
    assert pruned.drawn == random_search(World(crowded, 7, budget=10_000), name="none").drawn


def test_a_pruner_is_charged_until_the_report_at_which_it_speaks() -> None:
    # Below 0.1 at the first report: all but the two that end at 0.9 and 0.8 are stopped there.
    world = World(table({2: 0.38}), 0, budget=10_000)

    played = random_search(world, name="threshold", lower=0.1, warmup=0)

    assert played.stopped == {0, 1, 2, 5}
    assert played.spent == 4 * 100 + 2 * AT_ALL
    assert {end.configuration for end in played.ended} == {3, 4}


def test_a_budget_ends_a_search_in_the_middle_of_a_training() -> None:
    played = random_search(World(table(), 0, budget=2 * AT_ALL + 150), name="none")

    assert (played.spent, len(played.ended), len(played.drawn)) == (2 * AT_ALL + 150, 2, 3)
    assert played.stopped == frozenset()


def test_a_budget_that_is_used_up_at_the_end_of_a_training_keeps_it() -> None:
    played = random_search(World(table(), 0, budget=2 * AT_ALL), name="none")

    assert (played.spent, len(played.ended), len(played.drawn)) == (2 * AT_ALL, 2, 2)


def test_a_training_that_failed_costs_its_env_steps_and_has_no_score() -> None:
    played = random_search(World(table({4: None}), 0, budget=10_000), name="none")

    assert played.ended[0] == Ended(AT_ALL, 4, None)
    assert played.spent == 6 * AT_ALL


@pytest.mark.parametrize("repetition", range(4))
def test_pauses_and_continuations_are_those_of_the_replay_of_the_program(repetition: int) -> None:
    world = World(table(), repetition, budget=10_000)
    pruner = PrunerSettings(name="successive_halving", pause=True, warmup=0.25, reduction_factor=2)

    played = play_ours(world, SamplerSettings(name="random"), pruner)

    curves = {n: (dict(training(n, FINAL[n]).curve), AT_ALL) for n in played.drawn}
    expected = replay(rungs_of(world.table.spec.model_copy(update={"pruner": pruner})), curves)
    assert played.spent == sum(expected.values())
    assert played.stopped == {number for number, env_steps in expected.items() if env_steps < AT_ALL}
    assert [end.configuration for end in played.ended] == [n for n in _by_end(played) if expected[n] == AT_ALL]
    # The worst is never among the better half of those that came to the first rung, the best always is.
    assert expected[5] == 100
    assert 3 in {end.configuration for end in played.ended}


def _by_end(played: Played) -> list[int]:
    spent = [end.spent for end in played.ended]
    assert all(before < after for before, after in pairwise(spent))
    return [end.configuration for end in played.ended]


def test_optuna_is_told_of_the_configuration_and_not_of_what_it_suggested() -> None:
    seen: list[float] = []

    class Watching(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            seen.append(study.get_trials(deepcopy=False)[trial.number].params["ppo.learning_rate"])
            return max(trial.intermediate_values) == 200 and trial.intermediate_values[200] < 0.3

    played = play_optuna(World(table(), 1, budget=10_000), Watching())

    assert set(seen) == set(RATES)
    assert played.drawn[0] == 4
    assert played.stopped == {0, 1, 2, 5}
    assert played.spent == 4 * 200 + 2 * AT_ALL


def test_trials_of_ray_are_put_on_the_same_clock() -> None:
    world = World(table(), 0, budget=1000)

    played = clocked(world, [(0, 100), (3, AT_ALL), (1, 200), (4, AT_ALL), (2, 100)])

    assert played.ended == (Ended(520, 3, 0.9),)
    assert played.stopped == {0, 1}
    assert (played.drawn, played.spent) == ((0, 3, 1, 4), 1000)


def test_all_rows_begin_with_the_same_configuration_and_repeat_themselves() -> None:
    rows = searches()
    first = {row.name: row.play(World(table(), 2, budget=1500)) for row in rows}

    assert {played.drawn[0] for played in first.values()} == {4}
    assert {row.name: row.play(World(table(), 2, budget=1500)) for row in rows} == first
    assert rows[0].name == RANDOM
    assert DEFAULT in first
    assert len(first) == len(rows)


# --- figures --------------------------------------------------------------------------------------------------------

PLAYED = Played((Ended(420, 4, 0.8), Ended(520, 0, None), Ended(940, 3, 0.9)), (4, 0, 3, 1), frozenset({1}), 1000)


def test_env_steps_to_a_score_and_scores_at_a_budget() -> None:
    assert [steps_to(PLAYED, target, 1000) for target in (0.5, 0.8, 0.85, 0.95)] == [420, 420, 940, 1000]
    assert [best_known(PLAYED, spent) for spent in (419, 420, 939, 940)] == [0.0, 0.8, 0.8, 0.9]


def test_a_row_says_how_often_the_winner_was_stopped_and_what_that_cost() -> None:
    world = World(table(), 0, budget=1000)
    lost = Played((Ended(420, 4, 0.8),), (4, 3), frozenset({3}), 1000)

    row = figures_of("row", [(world, PLAYED), (world, lost)], targets=[0.85, 0.85])

    assert (row.lost, row.regret) == (0.5, pytest.approx(0.05))
    assert (row.steps, row.reached) == ((940, 1000), 0.5)
    assert row.scores == (0.0, 0.8, pytest.approx(0.85))
    assert row.begun == 3


def test_the_target_is_what_half_of_all_random_orders_know() -> None:
    # The best of 3 of 6 is 0.9 in half of the orders, and 0.8 or less in the other half; of 5 it is 0.9 in 5 of 6.
    world = World(table(), 0, budget=1000)
    assert target_score(world, 1) == 0.3
    assert target_score(world, 3) in (0.8, 0.9)
    assert target_score(world, 5) == 0.9


def test_how_many_a_pruner_has_to_keep_for_the_two_best_to_stay() -> None:
    places = places_of_best([World(table(), 0, budget=1000)])

    assert places[1.0] == pytest.approx(2 / 6, abs=0.02), "whole curves say it"
    assert places[0.1] == 1.0, "nothing is known of any"


def test_the_ratio_of_two_rows_has_an_interval() -> None:
    ratio = ratio_of([1.0, 2.0, 3.0], [10.0, 20.0, 30.0])

    assert (ratio.median, ratio.low, ratio.high) == (pytest.approx(0.1),) * 3


def row(name: str, steps: tuple[int, ...], lost: float = 0.0) -> Figures:
    return Figures(name, steps, 1.0, (0.0, 0.0, 0.0), lost, 0.0, 1)


def test_the_promises_are_those_of_the_default() -> None:
    random, default = row(RANDOM, (90, 100, 110)), row(DEFAULT, (29, 30, 31), lost=0.02)

    kept = promises([random, default, row("ours: other", (29, 30, 31), lost=0.04), row("Ray", (29, 29, 60))])
    broken = promises([random, row(DEFAULT, (49, 50, 51), lost=0.1), row("ours: other", (19, 20, 21))])

    assert kept.splitlines() == ["3 of 3 floors hold.", "Fewest env steps of ours: the default."]
    assert broken.splitlines()[0] == "0 of 3 floors hold."
    assert "BEATEN by ours: other: its median lies below the default's interval." in broken
    assert broken.endswith("Fewest env steps of ours: other.")


def test_one_command_prints_all_rows_and_says_that_a_table_is_partial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "curves.json.gz"
    whole = table()
    write_table(Table(whole.spec, (*whole.points, {"ppo.learning_rate": 5e-4}), (1,), whole.trainings), file)

    assert main(["--table", str(file), "--no-ray", "--repetitions", "3"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("toy: a PARTIAL table: 6 of 7 configurations x 1 seeds are trained")
    assert "target 0." in lines[4]
    assert "what 2 full random trials know in half of all orders with" in lines[4]
    assert "budget 0.0016M env steps" in lines[4]
    assert [line[2:39].strip() for line in lines[7 : 7 + len(searches())]] == [row.name for row in searches()]
    assert lines[-1].startswith("The table is PARTIAL, so nothing is settled.")


def test_a_table_of_a_few_trainings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "curves.json.gz"
    write_table(Table(spec(), table().points, (1,), table().trainings[:5]), file)

    assert main(["--table", str(file), "--no-ray"]) == 2
    assert "5 configurations are too few to search; 6 are the least." in capsys.readouterr().err
