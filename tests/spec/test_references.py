"""Studies and trainings of which a part stands in another file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.files import REWARDS, SPACE, edited, write_files
from tests.support.study_text import study_text
from vbot_campaign.errors import SpecError, StudyChangedError
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths
from vbot_campaign.spec.loading import definition, load_study, load_training
from vbot_campaign.spec.resolve import definition_changes, prior_point
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.study import close_readers

_FROM = study_text().index("search_space:")
_TO = study_text().index("fixed:")
INLINE = study_text()[_FROM:_TO]
CONSTRAINTS = study_text()[study_text().index("constraints:") : study_text().index("workers:")]


def load(folder: Path, *edits: tuple[str, str]) -> StudySpec:
    path = folder / "x.yaml"
    path.write_text(study_text((CONSTRAINTS, ""), *edits), encoding="utf-8")
    return load_study(path)


def space(preset: str | None = None, more: str = "") -> tuple[str, str]:
    """Return the edit that takes the search space from a file."""
    chosen = f", preset: {preset}" if preset else ""
    return INLINE, f"search_space: {{file: space.yaml{chosen}}}\n{more}"


# --- search spaces --------------------------------------------------------------------------------------------------


def test_a_preset_searches_its_groups_and_fixes_the_rest_at_the_prior(tmp_path: Path) -> None:
    study = load(write_files(tmp_path), space("rewards"))
    assert list(study.parameters) == ["reward.arrival_bonus", "reward.termination"]
    assert study.fixed["ppo"] == {
        "discount_factor": 0.99,  # the study's own
        "learning_rate": 3e-4,
        "rollouts": 16,
        "entropy_loss_scale": 0.003,  # no prior: the default, which lies in the range
    }
    assert study.fixed["env"] == {"spawn_outer_radius": 4.0}


def test_a_preset_names_single_parameters_and_other_values(tmp_path: Path) -> None:
    study = load(write_files(tmp_path), space("one"))
    assert list(study.parameters) == ["ppo.learning_rate"]
    assert study.fixed["reward"] == {"termination": -50, "arrival_bonus": 90}


def test_without_a_preset_everything_is_searched(tmp_path: Path) -> None:
    study = load(write_files(tmp_path), space())
    assert len(study.parameters) == 5
    assert study.fixed == {"ppo": {"discount_factor": 0.99}, "env": {"spawn_outer_radius": 4.0}}


def test_what_the_study_fixes_is_not_searched(tmp_path: Path) -> None:
    study = load(write_files(tmp_path), space(), ("{discount_factor: 0.99}", "{learning_rate: 5e-4}"))
    assert "ppo.learning_rate" not in study.parameters
    assert study.fixed["ppo"] == {"learning_rate": 5e-4}


def test_a_file_lies_relative_to_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path)
    (tmp_path / "deep").mkdir()
    study = load(tmp_path / "deep", (INLINE, "search_space: {file: ../space.yaml}\n"))
    assert len(study.parameters) == 5
    monkeypatch.chdir(tmp_path)
    assert load_study(Path("deep/x.yaml")) == study


# --- reward weights -------------------------------------------------------------------------------------------------


def test_weights_of_a_file_are_fixed(tmp_path: Path) -> None:
    study = load(
        write_files(tmp_path),
        (INLINE, "search_space: {file: space.yaml, preset: one}\nreward: {file: rewards.yaml, preset: far}\n"),
    )
    # The reward file goes before the search space's priors and presets.
    assert study.fixed["reward"] == {"arrival_bonus": 120, "stop_scale": 6, "termination": -200}


def test_weights_of_searched_terms_are_where_the_search_begins(tmp_path: Path) -> None:
    study = load(
        write_files(tmp_path),
        space("rewards", "reward: {file: rewards.yaml, weights: {termination: -200}}\n"),
    )
    first = prior_point(study)
    assert (first["reward.arrival_bonus"], first["reward.termination"]) == (120, -200)
    assert study.fixed["reward"] == {"stop_scale": 6}


def test_a_prior_beside_the_reference_stays(tmp_path: Path) -> None:
    study = load(write_files(tmp_path), ("fixed:", "reward: {file: rewards.yaml}\nfixed:"))
    assert prior_point(study)["reward.arrival_bonus"] == 100
    assert study.fixed["reward"] == {"stop_scale": 6, "termination": -80}


def test_an_entry_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "runs"))
    entry = CampaignPaths(tmp_path / "runs").reward("good")
    entry.parent.mkdir(parents=True)
    entry.write_text(REWARDS, encoding="utf-8")
    study = load(tmp_path, ("fixed:", "reward: {library: good}\nfixed:"))
    assert study.fixed["reward"] == {"stop_scale": 6, "termination": -80}
    with pytest.raises(SpecError, match=r"x.yaml:19: reward.library: 'god' is not in .* Did you mean 'good'\?"):
        load(tmp_path, ("fixed:", "reward: {library: god}\nfixed:"))


def test_a_training_takes_weights_from_a_file(tmp_path: Path) -> None:
    path = write_files(tmp_path) / "train.yaml"
    path.write_text("env_steps: 100_000\nreward: {file: rewards.yaml, preset: far, weights: {stop_scale: 7}}\n")
    assert load_training(path).reward == {"arrival_bonus": 120, "stop_scale": 7, "termination": -200}


# --- what is stored -------------------------------------------------------------------------------------------------


def test_a_stored_study_needs_the_files_no_more(tmp_path: Path) -> None:
    write_files(tmp_path)
    study = load(tmp_path, space("rewards", "reward: {file: rewards.yaml, preset: far}\n"))
    assert "reward" not in definition(study)
    assert "file" not in str(definition(study)["search_space"])
    paths = CampaignPaths(tmp_path / "runs")
    storage = open_storage(paths)
    CampaignStudy.create(storage, study)
    storage.close()
    (tmp_path / "space.yaml").unlink()
    (tmp_path / "rewards.yaml").unlink()
    try:
        assert load_snapshot(paths, "tiny").spec.parameters == study.parameters
    finally:
        close_readers()


def test_a_changed_file_is_a_changed_study(tmp_path: Path) -> None:
    write_files(tmp_path)
    reference = space("rewards")
    before = load(tmp_path, reference)
    write_files(tmp_path, space=edited(SPACE, ("high: 200", "high: 300")))
    after = load(tmp_path, reference)
    assert definition_changes(before, after).differences == ("search_space.reward.arrival_bonus.high: 200 -> 300",)
    storage = open_storage(CampaignPaths(tmp_path / "runs"))
    try:
        CampaignStudy.create(storage, before)
        with pytest.raises(StudyChangedError, match="arrival_bonus"):
            CampaignStudy.create(storage, after)
    finally:
        storage.close()


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (
            [(INLINE, "search_space: {file: spac.yaml}\n")],
            "x.yaml:11: search_space.file: no file .*Did you mean 'space.yaml'",
        ),
        ([(INLINE, "search_space: {preset: rewards}\n")], "x.yaml:11: search_space.file: is missing"),
        ([space("reward")], r"x.yaml:11: search_space.preset: 'reward' is no preset .* Did you mean 'rewards'\?"),
        ([(INLINE, "search_space: {file: space.yaml, presets: one}\n")], "presets: unknown key. Did you mean 'preset'"),
        ([(INLINE, "search_space: {file: rewards.yaml}\n")], "rewards.yaml: is reward weights, not a search space"),
        ([("fixed:", "reward: {file: space.yaml}\nfixed:")], "space.yaml: is a search space, not reward weights"),
        ([("fixed:", "reward: {file: a, library: b}\nfixed:")], "x.yaml:19: reward: names both"),
        ([("fixed:", "reward: {preset: far}\nfixed:")], "x.yaml:19: reward.preset: is a preset of a file"),
        ([("fixed:", "reward: {library: ../x}\nfixed:")], "x.yaml:19: reward.library: '../x' cannot be a name"),
        ([("fixed:", "reward: far\nfixed:")], "x.yaml:19: reward: expected weights by term"),
        ([("fixed:", "rewards: {preset: far}\nfixed:")], "x.yaml:19: rewards: unknown key. Did you mean 'reward'"),
        (
            [("fixed:", "reward: {arrival_bonsu: 3}\nfixed:")],
            "x.yaml:19: .*arrival_bonsu: no such reward term. Did you",
        ),
        # A value of another file is shown with that file and its line.
        (
            [space("rewards", "reward: {file: high.yaml}\n")],
            "high.yaml:3: .*arrival_bonus.prior: 300 is outside the range",
        ),
        (
            [space(), ("ppo: {discount", "ppo: {mini_batches: 7, discount")],
            "x.yaml:13: fixed.ppo.mini_batches: no value",
        ),
    ],
)
def test_refused(tmp_path: Path, edits: list[tuple[str, str]], message: str) -> None:
    write_files(tmp_path, high="reward:\n  navigation:\n    arrival_bonus: 300\n")
    with pytest.raises(SpecError, match=message):
        load(tmp_path, *edits)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            ("arrival_bonus: 120", "arrival_bonsu: 120"),
            "rewards.yaml:3: .*no such reward term. Did you mean 'arrival_bo",
        ),
        (
            ("  termination:\n    termination: -80", "    termination: -80"),
            "rewards.yaml:5: .*belongs under 'termination'",
        ),
        (("  navigation:", "  navigaton:"), "rewards.yaml:2: reward.navigaton: unknown key. Did you mean 'navigation'"),
        (("stop_scale: 6", "stop_scale: high"), "rewards.yaml:4: reward.navigation.stop_scale: 'high' is not valid"),
        (
            ("{termination: -200}", "{terminatio: -200}"),
            "rewards.yaml:9: presets.far.reward.termination.terminatio: no such",
        ),
    ],
)
def test_a_reward_file_with_a_mistake(tmp_path: Path, edit: tuple[str, str], message: str) -> None:
    write_files(tmp_path, rewards=edited(REWARDS, edit))
    with pytest.raises(SpecError, match=message):
        load(tmp_path, ("fixed:", "reward: {file: rewards.yaml}\nfixed:"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("prior: 3e-4", "prior: 3e-2"), "space.yaml:3: search_space.ppo.learning_rate.prior: 0.03 is outside"),
        (
            ("rollouts:", "rolouts:"),
            "space.yaml:4: search_space.ppo.rolouts: no such PPO setting. Did you mean 'rollouts'",
        ),
        (
            ("[reward]", "[rewards]"),
            r"space.yaml:10: presets.rewards.search\[0\]: 'rewards' is not in the search space. Did",
        ),
        (("-50", "low"), "space.yaml:11: presets.one.fixed.reward.termination: 'low' is not valid"),
        (
            ("search: [reward]", "serach: [reward]"),
            "space.yaml:10: presets.rewards.serach: unknown key. Did you mean 'search'",
        ),
    ],
)
def test_a_search_space_with_a_mistake(tmp_path: Path, edit: tuple[str, str], message: str) -> None:
    write_files(tmp_path, space=edited(SPACE, edit))
    with pytest.raises(SpecError, match=message):
        load(tmp_path, space("one"))
