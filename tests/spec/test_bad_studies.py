"""Everything a person can get wrong in a study file is answered with file, line, value and what is valid."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.study_text import STUDY, study_text, write_study
from vbot_campaign.errors import SpecError
from vbot_campaign.spec.loading import load_study, study_from_text

BUDGET = "{trials: 10}"
RATE = "{type: loguniform, low: 1e-4, high: 1e-3, prior: 3e-4}"
ROLLOUTS = "{type: choice, values: [16, 24, 32], prior: 24}"
LAYERS = "{type: categorical, choices: [[128, 64], [256, 128, 64]]}"
BONUS = "{type: uniform, low: 50, high: 200, prior: 100}"
SKIP = "ppo.learning_rate > 5e-4 and ppo.rollouts < 20"
LAST = "workers: {num_envs: 512}"

# What to replace, with what, at which line the complaint stands, and words it must have.
BAD: dict[str, tuple[str, str, int, list[str]]] = {
    # Shape
    "unknown key": ("pruner:", "prunner:", 10, ["prunner: unknown key", "Did you mean 'pruner'?"]),
    "unknown nested key": ("startup_trials", "startup_trails", 9, ["sampler.startup_trails", "'startup_trials'"]),
    "missing key": ("study: tiny\n", "", 1, ["study: is missing", "letters, digits"]),
    "text for a number": ("2_000_000", "many", 4, ["env_steps_per_trial: 'many'", "a whole number above 0"]),
    "quoted number": ("2_000_000", "'2000000'", 4, ["a whole number above 0", "Remove the quotes"]),
    "fraction for a whole number": (BUDGET, "{trials: 10.5}", 5, ["budget.trials: 10.5", "at least 1"]),
    "true for a number": ("seed: 1", "seed: true", 9, ["sampler.seed: true", "a whole number"]),
    "text for a mapping": ("{name: median}", "median", 10, ["pruner: 'median'", "a mapping with name, warmup"]),
    "nothing for a mapping": (LAST, "workers:", 24, ["workers: nothing", "Leave the line out"]),
    "list for a group": ("{discount_factor: 0.99}", "[0.99]", 20, ["fixed.ppo: [0.99]", "a mapping"]),
    "unknown group": ("  reward:", "  rewards:", 16, ["search_space.rewards: unknown key", "'reward'"]),
    "out of limits": (LAST, "workers: {slots_per_gpu: 99}", 24, ["slots_per_gpu: 99", "from 1 to 16"]),
    "infinite": (LAST, "seed: .inf", 24, ["seed: .inf is not a finite number"]),
    "beyond floats": (LAST, "evaluation: {episodes: 1e999}", 24, ["1e999 is not a finite number"]),
    # Names
    "study name with a space": ("study: tiny", "study: my study", 1, ["study: 'my study'", "letters, digits"]),
    "study name of an environment": ("study: tiny", "study: vbot_navigation_section001", 1, ["name of an environment"]),
    "study name of the database": ("study: tiny", "study: campaign.db", 1, ["name of a file"]),
    "unknown environment": ("section001", "section01", 2, ["environment: 'vbot_navigation_section01'", "section001'?"]),
    "unknown physics": ("mujoco", "mujocco", 3, ["physics: 'mujocco'", "Did you mean 'mujoco'?"]),
    "unknown sampler": ("name: tpe", "name: tpee", 9, ["sampler.name: 'tpee'", "tpe, random, grid, cmaes, gp, queue"]),
    "unknown pruner": ("name: median", "name: medain", 10, ["pruner.name: 'medain'", "Did you mean 'median'?"]),
    "unknown PPO setting": ("learning_rate:", "learnign_rate:", 13, ["no such PPO setting", "'learning_rate'"]),
    "unknown reward term": ("arrival_bonus", "arival_bonus", 17, ["no such reward term", "'arrival_bonus'"]),
    "unknown env setting": ("spawn_outer_radius", "spawn_radius", 21, ["no such environment setting", "'spawn_outer"]),
    "name in the wrong group": ("discount_factor", "speed_cap", 20, ["fixed.ppo.speed_cap", "belongs under 'env'"]),
    "unknown score part": ("success_rate", "sucess_rate", 7, ["no such score part", "'success_rate'"]),
    # Objective, budget, sampler, pruner
    "zero trials": (BUDGET, "{trials: 0}", 5, ["budget.trials: 0", "at least 1"]),
    "negative hours": (BUDGET, "{hours: -1}", 5, ["budget.hours: -1", "above 0"]),
    "no budget": (BUDGET, "{}", 5, ["budget: sets no limit", "trials, hours, gpu_hours, env_steps"]),
    "empty objective": (
        "objective:\n  success_rate: 0.6\n  goal_progress: {weight: 0.4}",
        "objective: {}",
        6,
        ["objective: is empty", "success_rate"],
    ),
    "reward score without scale": ("success_rate", "episode_reward_mean", 7, ["needs a scale", "{weight: 0.6, scale:"]),
    "zero weight": ("success_rate: 0.6", "success_rate: 0", 7, ["objective.success_rate: 0", "above 0"]),
    "dry run of the default": (
        "{name: median}",
        "{dry_run: true}",
        10,
        ["pruner.dry_run: stops nothing, and rungs pauses", "noise_aware"],
    ),
    "rungs in disorder": (
        "{name: median}",
        "{rungs: [{at: 0.4, keep: 0.5}, {at: 0.2, keep: 0.5}]}",
        10,
        ["pruner.rungs: lie at 0.4, 0.2; each must lie above the one before it"],
    ),
    "a rung that keeps all": (
        "{name: median}",
        "{rungs: [{at: 0.4, keep: 1}]}",
        10,
        ["pruner.rungs[0].keep: 1", "below 1"],
    ),
    "pause without rungs": ("{name: median}", "{name: median, pause: true}", 10, ["'median' has no rungs to pause at"]),
    "pause on a dry run": (
        "{name: median}",
        "{name: successive_halving, pause: true, dry_run: true}",
        10,
        ["pruner.dry_run: stops nothing, and successive_halving pauses"],
    ),
    "pause with patience": (
        "{name: median}",
        "{name: successive_halving, pause: true, patience: 2}",
        10,
        ["pruner.patience: is for trials that are stopped"],
    ),
    "threshold without bounds": ("{name: median}", "{name: threshold}", 10, ["threshold needs lower"]),
    "threshold without room": (
        "{name: median}",
        "{name: threshold, lower: 0.5, upper: 0.2}",
        10,
        ["pruner.lower: lower 0.5 is not below upper 0.2"],
    ),
    "grid over a continuous range": ("name: tpe", "name: grid", 13, ["is continuous", "use type choice"]),
    # Ranges
    "low above high": (
        RATE,
        "{type: loguniform, low: 1e-3, high: 1e-4}",
        13,
        ["search_space.ppo.learning_rate.low: low 0.001 is not below high 0.0001"],
    ),
    "low equals high": (BONUS, "{type: uniform, low: 5, high: 5}", 17, ["low 5 is not below high 5"]),
    "log range from zero": (RATE, "{type: loguniform, low: 0, high: 1}", 13, ["includes zero", "uniform"]),
    "log range across zero": (BONUS, "{type: loguniform, low: -1, high: 1}", 17, ["includes zero"]),
    "no choices": (ROLLOUTS, "{type: choice, values: []}", 14, ["rollouts.values: []", "at least 1 entry"]),
    "no categories": (LAYERS, "{type: categorical, choices: []}", 15, ["choices: []", "at least 1 entry"]),
    "choice twice": (ROLLOUTS, "{type: choice, values: [16, 16.0]}", 14, ["values[1]: 16 appears twice"]),
    "category twice": (LAYERS, "{type: categorical, choices: [[8], [8]]}", 15, ["choices[1]: [8] appears twice"]),
    "list in a choice": (ROLLOUTS, "{type: choice, values: [[16]]}", 14, ["values[0]: [16]", "type categorical"]),
    "prior outside": (RATE, RATE.replace("3e-4", "1e-2"), 13, ["prior: 0.01 is outside", "0.0001 .. 0.001"]),
    "prior no choice": (ROLLOUTS, ROLLOUTS.replace("24}", "20}"), 14, ["prior: 20 is not among", "16, 24, 32"]),
    "prior off the grid": (
        ROLLOUTS,
        "{type: int, low: 16, high: 32, step: 4, prior: 18}",
        14,
        ["prior: 18 is not on the grid", "16 .. 32 step 4"],
    ),
    "step does not divide": (
        ROLLOUTS,
        "{type: int, low: 16, high: 32, step: 5}",
        14,
        ["step 5 does not divide high - low = 16"],
    ),
    "logarithm of zero": (ROLLOUTS, "{type: int, low: 0, high: 8, log: true}", 14, ["starts at 1 or above"]),
    "unknown kind": (RATE, "{type: lognormal, low: 1, high: 2}", 13, ["type: 'lognormal'", "loguniform, uniform"]),
    "no kind": (RATE, "{low: 1, high: 2}", 13, ["learning_rate.type: is missing", "choice, int"]),
    "value for a range": (RATE, "3e-4", 13, ["learning_rate: 0.0003", "goes under 'fixed'"]),
    "key of another kind": (RATE, "{type: uniform, values: [1]}", 13, ["values: unknown key", "high, low"]),
    # Values
    "high that PPO refuses": (RATE, "{type: uniform, low: 0.1, high: 5}", 13, ["learning_rate.high: 5", "at most 1"]),
    "choice that PPO refuses": (ROLLOUTS, "{type: choice, values: [0, 24]}", 14, ["values[0]: 0", "from 2 to 1024"]),
    "layer that PPO refuses": (
        LAYERS,
        "{type: categorical, choices: [[128, 0]]}",
        15,
        ["choices[0][1]: 0", "from 1 to 4096"],
    ),
    "fraction for a count": (ROLLOUTS, "{type: uniform, low: 16, high: 32}", 14, ["takes whole numbers", "type int"]),
    "range for a list": (LAYERS, "{type: int, low: 1, high: 2}", 15, ["'int' does not fit", "use type categorical"]),
    "fixed value out of limits": ("0.99", "1.5", 20, ["fixed.ppo.discount_factor: 1.5", "at most 1"]),
    "fixed setting out of limits": ("4.0}", "99}", 21, ["spawn_outer_radius: 99", "from 0.1 to 14"]),
    "yes is a text": ("spawn_outer_radius: 4.0", "desynchronise: yes", 21, ["'yes'", "true or false"]),
    "setting among few": (
        "spawn_outer_radius: 4.0",
        "position_scale: 6",
        21,
        ["position_scale: 6", "one of 5.0, 12.0"],
    ),
    "text weight": (
        "\n  env: {spawn",
        "\n  reward: {torques: low}\n  env: {spawn",
        21,
        ["reward.torques: 'low'", "a number"],
    ),
    # Values that do not go together
    "searched and fixed": ("discount_factor: 0.99", "rollouts: 24", 20, ["is both searched and fixed"]),
    "mini-batches": ("discount_factor: 0.99", "mini_batches: 7", 20, ["no value divides num_envs 512 x rollouts"]),
    "radii": ("spawn_outer_radius: 4.0", "spawn_outer_radius: 1", 21, ["inner radius 2 is above outer radius 1"]),
    "budget below an iteration": ("2_000_000", "5000", 4, ["less than one iteration", "512 x rollouts 16 = 8192"]),
    # Conditions
    "unknown name": (SKIP, "ppo.rolouts < 20", 23, ["'ppo.rolouts' does not exist", "'ppo.rollouts'"]),
    "name without group": (SKIP, "rollouts < 20", 23, ["'rollouts' does not exist", "'ppo.rollouts'"]),
    "single equals sign": (SKIP, "ppo.rollouts = 16", 23, ["column 14", "compare with '=='"]),
    "unfinished": (SKIP, "ppo.rollouts <", 23, ["expected a value, found the end"]),
    "not a condition": (SKIP, "ppo.rollouts + 1", 23, ["gives 25, which is neither true nor false"]),
    "length of a number": (SKIP, "len(ppo.rollouts) > 1", 23, ["len(24) has no value"]),
    "excludes the first trial": (SKIP, "ppo.rollouts > 20", 23, ["excludes the first trial", "ppo.rollouts = 24"]),
    "later parameter": ("3e-4}", "3e-4, when: ppo.rollouts > 20}", 13, ["learning_rate.when", "declared after it"]),
    "own value": ("3e-4}", "3e-4, when: ppo.learning_rate > 0}", 13, ["learning_rate.when", "its own value"]),
    # YAML
    "duplicate key": (LAST, "study: again", 24, ["study: appears twice (first on line 1)"]),
    "unclosed bracket": (LAST, "workers: {num_envs: 512", 25, ["not valid YAML", "what began on line 24"]),
    "tab": (LAST, "\tworkers: {}", 24, ["not valid YAML", "a tab", "indent with spaces"]),
    "indentation": (LAST, "  workers: {}", 24, ["not valid YAML", "check the indentation"]),
    "colon in a text": ("reason: unstable", "reason: a: b", 23, ["not valid YAML"]),
    "tag": (LAST, "workers: !!python/object:os.system {}", 24, ["tag", "not supported"]),
    "second document": (LAST, "---\na: 1", 24, ["a second document"]),
    "number as a key": (LAST, "1: 2", 24, ["'1' cannot be a key"]),
    "list as a key": (LAST, "[a]: 2", 24, ["a list or mapping cannot be a key"]),
    "line break in a key": (LAST, '"a\\nb": 2', 24, ["cannot be a key; keys are names"]),
    "half a character": ("study: tiny", 'study: "\\uD800"', 1, ["study: holds an escape that is half a character"]),
    "tag that does not fit": (LAST, "seed: !!int ten", 24, ["seed: 'ten' is not what its tag says"]),
    "alias into itself": (LAST, "workers: &a {x: *a}", 24, ["an alias to something that contains it"]),
}

LEAKS = ("pydantic", "Input should", "[type=", "http", "validation error", "Value error", "Traceback", "\n\n")


@pytest.mark.parametrize(("old", "new", "line", "words"), BAD.values(), ids=BAD)
def test_a_mistake_is_named_with_its_line(old: str, new: str, line: int, words: list[str], tmp_path: Path) -> None:
    path = write_study(tmp_path, (old, new))
    with pytest.raises(SpecError) as caught:
        load_study(path)
    message = str(caught.value)
    first = next(text for text in message.splitlines() if words[0] in text)
    assert first.startswith(f"{path}:{line}: ")
    assert all(word in first for word in words), first
    assert not [leak for leak in LEAKS if leak in message]


def test_the_study_that_the_table_breaks_is_valid() -> None:
    assert study_from_text(STUDY).study == "tiny"


def test_several_mistakes_are_reported_together_in_the_order_of_the_file() -> None:
    text = study_text(
        ("discount_factor", "discount"), ("arrival_bonus", "arival_bonus"), ("physics: mujoco", "physics: bullet")
    )
    with pytest.raises(SpecError) as caught:
        study_from_text(text, "a.yaml")
    assert [line.split(" ")[0] for line in str(caught.value).splitlines()] == ["a.yaml:3:", "a.yaml:17:", "a.yaml:20:"]


def test_at_most_ten_lines_are_reported() -> None:
    many = "".join(f"\nunknown_{i}: 1" for i in range(30))
    with pytest.raises(SpecError) as caught:
        study_from_text(STUDY + many)
    lines = str(caught.value).splitlines()
    assert len(lines) == 10
    assert lines[-1] == "study: and 21 more problems; put these right first."


def test_a_mistake_in_block_style_has_the_line_of_its_key() -> None:
    block = "\n      type: loguniform\n      low: 1e-2\n      high: 1e-3"
    with pytest.raises(SpecError, match=r"^study:15: search_space.ppo.learning_rate.low: "):
        study_from_text(study_text((f" {RATE}", block)))


def test_files_that_are_no_study_files(tmp_path: Path) -> None:
    write_study(tmp_path)
    with pytest.raises(SpecError, match=r"xx\.yaml: no such file\. Did you mean '.*x\.yaml'\?"):
        load_study(tmp_path / "xx.yaml")
    with pytest.raises(SpecError, match=r"is a folder; name a study file in it\. It holds: x\.yaml\."):
        load_study(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"# nothing but a comment\n", "is empty"),
        (b"- a\n- b\n", ":1: expected keys with values (a mapping), got ['a', 'b']"),
        (b"just a text", ":1: expected keys with values (a mapping)"),
        (b"study: a\nenvironment: \xff\n", ":2: not UTF-8 text (byte 22)"),
        (b"study: a\nenvironment: \x07\n", ":2: not valid YAML: a character that text files do not have"),
        (b"study: " + b"[" * 5000, "nested too deep"),
        (
            b"a: &a [1,2]\n"
            + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(9)),
            "more than 20000 values",
        ),
    ],
    ids=["empty", "comment", "list", "text", "latin-1", "control character", "deep", "aliases"],
)
def test_contents_that_are_no_study(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_study(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert words in message


PIECES = st.sampled_from(
    [*"{}[]:,-#&*!'\"\n\t 0a", "null", "true", "-1", "1e9", "[]", "{}", "choice", "ppo", "low", "  "]
)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(STUDY)), st.integers(0, 12), PIECES), min_size=1, max_size=3))
def test_whatever_is_typed_into_a_study_it_is_read_or_refused(edits: list[tuple[int, int, str]]) -> None:
    text = STUDY
    for at, length, piece in edits:
        text = text[:at] + piece + text[at + length :]
    message = ""
    try:
        study_from_text(text, "x.yaml")
    except SpecError as error:
        message = str(error)
    assert all(line.startswith("x.yaml") for line in message.splitlines())
    assert not [leak for leak in LEAKS if leak in message]
