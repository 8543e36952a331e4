"""Checkpoint files: layout, integrity, files of skrl."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.toy_env import PointEnv
from vbot_campaign.errors import CheckpointCorruptError, CheckpointError, CheckpointNotFoundError
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.learner import Learner
from vbot_campaign.spec.training import PpoSettings


@pytest.fixture
def learner() -> Learner:
    settings = PpoSettings(rollouts=4, policy_hidden_layer_sizes=(16, 8), value_hidden_layer_sizes=(24, 12, 8))
    learner = Learner(PointEnv(16, seed=1), settings, iterations=9, seed=0, device="cpu")
    learner.iterate()
    return learner


def test_the_record_identifies_the_bytes_on_disk(tmp_path: Path, learner: Learner) -> None:
    path = tmp_path / "checkpoints" / "agent_64.pt"

    record = checkpoint.save(path, learner.state_dict(), {})

    assert record.bytes == path.stat().st_size
    assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [item.name for item in path.parent.iterdir()] == ["agent_64.pt"]


def test_the_layout_is_that_of_skrl_plus_one_key(tmp_path: Path, learner: Learner) -> None:
    checkpoint.save(tmp_path / "a.pt", learner.state_dict(), {"settings": {"num_envs": 16, "ppo": {"rollouts": 4}}})

    content = torch.load(tmp_path / "a.pt", weights_only=True)

    assert list(content) == [
        "policy",
        "value",
        "optimizer",
        "state_preprocessor",
        "value_preprocessor",
        "vbot_campaign",
    ]
    assert list(content["policy"])[:2] == ["log_std_parameter", "policy_net.0.weight"]
    assert content["policy"].keys() == content["value"].keys()
    assert list(content["optimizer"]["state"][0]) == ["step", "exp_avg", "exp_avg_sq"]
    assert len(content["optimizer"]["state"]) == len(content["policy"])
    for name, size in (("state_preprocessor", 3), ("value_preprocessor", 1)):
        assert list(content[name]) == ["running_mean", "running_variance", "current_count"]
        assert content[name]["running_variance"].shape == (size,)
        assert content[name]["running_mean"].dtype == torch.float64
    own = content["vbot_campaign"]
    assert (own["schema"], own["kind"]) == (1, "resume")
    assert own["counters"] == {"iteration": 1, "env_steps": 64}
    assert own["schedule"]["epochs"] == 5
    assert own["settings"] == {"num_envs": 16, "ppo": {"rollouts": 4}}


def test_weights_are_stored_once_and_a_policy_leaves_out_the_environment(tmp_path: Path, learner: Learner) -> None:
    state = learner.state_dict()
    whole = checkpoint.save(tmp_path / "agent_64.pt", state, {})
    small = checkpoint.save(tmp_path / "best_agent.pt", state, {"kind": "policy"})

    content = torch.load(tmp_path / "best_agent.pt", weights_only=True)

    name = "policy_net.0.weight"
    assert content["policy"][name].data_ptr() == content["value"][name].data_ptr()
    assert small.bytes < whole.bytes
    assert sorted(content["vbot_campaign"]) == ["counters", "kind", "schedule", "schema"]


def test_a_policy_acts_as_the_one_that_was_saved(tmp_path: Path, learner: Learner) -> None:
    checkpoint.save(tmp_path / "best_agent.pt", learner.state_dict(), {"kind": "policy", "settings": {"num_envs": 16}})

    loaded = checkpoint.load_policy(tmp_path / "best_agent.pt")

    x = torch.randn(5, 3)
    expected = learner.policy.mean(learner.observation_normalizer.normalize(x))
    assert torch.equal(loaded.policy.mean(loaded.observation_normalizer.normalize(x)), expected)
    assert loaded.observation_normalizer.frozen
    assert loaded.training == {"num_envs": 16}
    assert loaded.env_steps == 64


def foreign(learner: Learner, *, normalizer: str, prefix: str = "") -> dict[str, Any]:
    """A file as skrl writes it."""
    state = learner.state_dict()
    weights = {prefix + name: value for name, value in state["policy"].items()}
    return {
        "policy": weights,
        "value": weights,
        "optimizer": state["optimizer"],
        normalizer: state["state_preprocessor"],
        "value_preprocessor": state["value_preprocessor"],
    }


@pytest.mark.parametrize(
    ("normalizer", "prefix"),
    [("state_preprocessor", ""), ("state_preprocessor", "_orig_mod."), ("observation_preprocessor", "")],
)
def test_policies_of_skrl_are_read(tmp_path: Path, learner: Learner, normalizer: str, prefix: str) -> None:
    torch.save(foreign(learner, normalizer=normalizer, prefix=prefix), tmp_path / "agent_1000.pt")

    loaded = checkpoint.load_policy(tmp_path / "agent_1000.pt")

    x = torch.randn(5, 3)
    expected = learner.policy.mean(learner.observation_normalizer.normalize(x))
    assert torch.equal(loaded.policy.mean(loaded.observation_normalizer.normalize(x)), expected)
    assert (loaded.training, loaded.env_steps) == (None, None)


def test_a_policy_without_its_normalizer_is_refused(tmp_path: Path, learner: Learner) -> None:
    torch.save(foreign(learner, normalizer="something_else"), tmp_path / "a.pt")

    with pytest.raises(CheckpointCorruptError, match="no observation normalizer"):
        checkpoint.load_policy(tmp_path / "a.pt")


def test_a_policy_of_another_architecture_is_refused(tmp_path: Path) -> None:
    torch.save({"policy": {"net.0.weight": torch.zeros(2, 2)}, "state_preprocessor": {}}, tmp_path / "a.pt")

    with pytest.raises(CheckpointCorruptError, match=r"no policy of the known layout: 'policy_net\.0\.weight'"):
        checkpoint.load_policy(tmp_path / "a.pt")


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "agent_10.pt").touch()

    with pytest.raises(CheckpointNotFoundError, match=r"agent_99\.pt\. Its folder has: agent_10\.pt"):
        checkpoint.load(tmp_path / "agent_99.pt")
    with pytest.raises(CheckpointNotFoundError, match="Its folder has none"):
        checkpoint.load(tmp_path / "nowhere" / "agent_99.pt")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_torn_file_is_corrupt(tmp_path: Path, learner: Learner, share: float) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, learner.state_dict(), {})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(CheckpointCorruptError, match="cannot be read"):
        checkpoint.load(path)


def test_a_single_altered_bit_is_found_by_the_hash(tmp_path: Path, learner: Learner) -> None:
    path = tmp_path / "a.pt"
    record = checkpoint.save(path, learner.state_dict(), {})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(CheckpointCorruptError, match="was altered"):
        checkpoint.load(path, record.sha256)


def test_a_file_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    torch.save({"policy": {}, "hook": Path("x")}, tmp_path / "a.pt")

    with pytest.raises(CheckpointCorruptError, match="cannot be read"):
        checkpoint.load(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], torch.zeros(2)])
def test_something_else_is_no_checkpoint(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")

    with pytest.raises(CheckpointCorruptError, match="is not a checkpoint"):
        checkpoint.load(tmp_path / "a.pt")


def test_a_newer_layout_asks_for_an_update(tmp_path: Path, learner: Learner) -> None:
    checkpoint.save(tmp_path / "a.pt", learner.state_dict(), {"schema": 2})

    with pytest.raises(CheckpointError, match="has layout 2, this program knows 1"):
        checkpoint.load(tmp_path / "a.pt")
