"""Policies of skrl and rsl_rl act here as they act there; everything else is refused and nothing is executed."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import foreign
from tests.support.vbot import ENVIRONMENT, make_vbot
from vbot_campaign.errors import CheckpointCorruptError, CheckpointError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.checkpoint import LoadedPolicy
from vbot_campaign.rl.importers import describe, import_checkpoint, import_into_study, load_for
from vbot_campaign.rl.learner import Learner
from vbot_campaign.spec.training import PpoSettings

OBSERVATIONS = 4.0 * torch.randn(64, foreign.OBSERVATIONS, generator=torch.Generator().manual_seed(3))
"""Far out, so that a normalizer that clips and one that does not are told apart."""


def actions_of(loaded: LoadedPolicy) -> torch.Tensor:
    with torch.no_grad():
        return loaded.policy.mean(loaded.observation_normalizer.normalize(OBSERVATIONS))


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def test_a_file_that_skrl_2_writes_acts_the_same(tmp_path: Path) -> None:
    agent = foreign.skrl_agent(foreign.SharedModel())
    agent.save(str(tmp_path / "agent.pt"))

    loaded = load_for(tmp_path / "agent.pt", ENVIRONMENT)

    assert_close(actions_of(loaded), foreign.skrl_actions(agent, OBSERVATIONS))
    assert torch.equal(loaded.policy.log_std_parameter, torch.full((12,), -0.5))


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
@pytest.mark.parametrize("separate", [False, True])
def test_a_file_of_skrl_14_acts_the_same(tmp_path: Path, prefix: str, separate: bool) -> None:
    model = foreign.SharedModel(policy_sizes=(32, 16), value_sizes=(24,))
    agent = foreign.skrl_agent(model)
    torch.save(foreign.skrl_14(model, agent, prefix=prefix, separate=separate), tmp_path / "agent_100.pt")

    imported = import_checkpoint(tmp_path / "agent_100.pt", tmp_path / "own.pt", ENVIRONMENT)

    assert imported.program == "skrl"
    assert (imported.policy_hidden_layer_sizes, imported.value_hidden_layer_sizes) == ((32, 16), (24,))
    loaded = checkpoint.load_policy(imported.path)
    assert_close(actions_of(loaded), foreign.skrl_actions(agent, OBSERVATIONS))
    assert torch.equal(loaded.policy.value_layer.weight, model.value_layer.weight)


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("std_type", ["scalar", "log"])
def test_a_file_of_rsl_rl_acts_the_same(tmp_path: Path, normalized: bool, std_type: str) -> None:
    pair = foreign.RslPair(normalized=normalized, std_type=std_type)

    imported = import_checkpoint(pair.save(tmp_path / "model_1500.pt"), tmp_path / "own.pt", ENVIRONMENT)

    loaded = checkpoint.load_policy(imported.path)
    # Its output layer is the last one of our trunk: there is an ELU before it, and none before our heads.
    assert (imported.program, imported.policy_hidden_layer_sizes) == ("rsl_rl", (64, 32, 12))
    assert_close(actions_of(loaded), pair.actions(OBSERVATIONS))
    assert loaded.policy.log_std.exp().tolist() == pytest.approx([0.7] * 12)


def test_the_critic_of_rsl_rl_values_the_same_through_the_actors_normalizer(tmp_path: Path) -> None:
    pair = foreign.RslPair()
    path = pair.save(tmp_path / "model_1500.pt")
    content = checkpoint.load(path)
    learner = small_learner(PpoSettings(policy_hidden_layer_sizes=(64, 32, 12), value_hidden_layer_sizes=(48, 32, 1)))

    learner.warm_start(content)

    with torch.no_grad():
        inputs = learner.observation_normalizer.normalize(OBSERVATIONS)
        values = learner.value_normalizer.denormalize(learner.policy.value(inputs))
    assert_close(values, pair.values(OBSERVATIONS), tolerance=1e-4)


def small_learner(settings: PpoSettings) -> Learner:
    return Learner(make_vbot(8), settings.model_copy(update={"rollouts": 4}), iterations=1, seed=0, device="cpu")


def test_a_training_goes_on_from_an_imported_policy(tmp_path: Path) -> None:
    pair = foreign.RslPair()
    imported = import_checkpoint(pair.save(tmp_path / "model_1.pt"), tmp_path / "own.pt", ENVIRONMENT)
    sizes = {
        "policy_hidden_layer_sizes": imported.policy_hidden_layer_sizes,
        "value_hidden_layer_sizes": imported.value_hidden_layer_sizes,
    }
    learner = small_learner(PpoSettings.model_validate(sizes))

    learner.warm_start(checkpoint.load(imported.path))
    stats = learner.iterate()

    assert stats.env_steps == 32
    # What it trains on is normalized as rsl_rl did, without a clip, and stays so in its own checkpoints.
    checkpoint.save(tmp_path / "agent_32.pt", learner.state_dict(), {})
    assert checkpoint.load_policy(tmp_path / "agent_32.pt").observation_normalizer.limit == float("inf")


def test_an_imported_file_says_where_it_came_from(tmp_path: Path) -> None:
    source = foreign.RslPair().save(tmp_path / "model_1500.pt")
    study = CampaignPaths(tmp_path / "runs").study("section001")
    study.root.mkdir(parents=True)

    imported = import_into_study(source, study, ENVIRONMENT)

    assert imported.path == tmp_path / "runs/section001/imported/model_1500.pt"
    own = torch.load(imported.path, weights_only=True)["vbot_campaign"]
    assert own["imported"]["program"] == "rsl_rl"
    line = json.loads(study.import_log.read_text())
    assert (line["file"], line["program"], line["sha256"]) == ("model_1500.pt", "rsl_rl", imported.sha256)
    assert f"vbot-campaign train --checkpoint {imported.path}" in describe(imported)
    assert "ppo.policy_hidden_layer_sizes=[64,32,12]" in describe(imported)
    with pytest.raises(CheckpointError, match="is there already"):
        import_into_study(source, study, ENVIRONMENT)


def test_a_study_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "section001").mkdir()

    with pytest.raises(StudyNotFoundError, match="Did you mean 'section001'"):
        import_into_study(tmp_path / "x.pt", CampaignPaths(tmp_path).study("section01"), ENVIRONMENT)


# --- refused ----------------------------------------------------------------------------------------------------------


def rsl_content(tmp_path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(foreign.RslPair().save(tmp_path / "m.pt"), weights_only=True)
    return content


def test_an_rsl_rl_policy_with_other_parts_is_refused(tmp_path: Path) -> None:
    content = rsl_content(tmp_path)
    content["actor_state_dict"]["rnn.weight_ih_l0"] = torch.zeros(2, 2)
    torch.save(content, tmp_path / "m.pt")

    with pytest.raises(CheckpointCorruptError, match=r"known layout: unknown rnn\.weight_ih_l0"):
        load_for(tmp_path / "m.pt", ENVIRONMENT)


def test_layers_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    content = rsl_content(tmp_path)
    content["actor_state_dict"]["mlp.2.weight"] = torch.zeros(32, 63)
    torch.save(content, tmp_path / "m.pt")

    with pytest.raises(CheckpointCorruptError, match="a layer of 64 numbers is followed by one for 63"):
        load_for(tmp_path / "m.pt", ENVIRONMENT)


def test_an_older_rsl_rl_is_named(tmp_path: Path) -> None:
    torch.save({"model_state_dict": {}, "iter": 3}, tmp_path / "m.pt")

    with pytest.raises(CheckpointError, match="rsl_rl before version 5"):
        load_for(tmp_path / "m.pt", ENVIRONMENT)


def test_a_policy_for_another_robot_is_refused(tmp_path: Path) -> None:
    path = foreign.RslPair(actions=10).save(tmp_path / "m.pt")

    with pytest.raises(CheckpointError, match="maps 54 observations to 10 actions"):
        load_for(path, ENVIRONMENT)


def test_a_policy_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    content = rsl_content(tmp_path)
    content["actor_state_dict"]["mlp.0.weight"][3, 4] = float("nan")
    torch.save(content, tmp_path / "m.pt")

    with pytest.raises(CheckpointError, match=r"policy_net\.0\.weight is not finite"):
        load_for(tmp_path / "m.pt", ENVIRONMENT)


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("form", ["torch", "torch, old format", "pickle", "within a policy"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, form: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "agent.pt"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"policy": Payload(mark)}))
    elif form == "within a policy":
        content = rsl_content(tmp_path)
        content["actor_state_dict"]["mlp.0.weight"] = Payload(mark)
        torch.save(content, path)
    else:
        torch.save({"policy": Payload(mark)}, path, _use_new_zipfile_serialization=form == "torch")

    with pytest.raises(CheckpointCorruptError, match="cannot be read"):
        import_checkpoint(path, tmp_path / "own.pt", ENVIRONMENT)

    assert not mark.exists()
    assert not (tmp_path / "own.pt").exists()
    # The payload is real: whoever unpickles it without care runs it.
    if form == "pickle":
        pickle.loads(path.read_bytes())  # noqa: S301
        assert mark.exists()
