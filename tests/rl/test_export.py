"""Exported policies act as the checkpoint they came from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from tests.support import foreign
from tests.support.vbot import ENVIRONMENT, make_vbot, place
from vbot_campaign import fs
from vbot_campaign.errors import CheckpointError, SpecError
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.export import OBSERVATION_LAYOUT, export_policy
from vbot_campaign.rl.learner import Learner
from vbot_campaign.spec.training import PpoSettings, TrainingSpec

OBSERVATIONS = 3.0 * torch.randn(33, foreign.OBSERVATIONS, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A checkpoint of our own, two iterations old."""
    learner = Learner(make_vbot(8), PpoSettings(rollouts=4), iterations=2, seed=0, device="cpu")
    learner.iterate()
    learner.iterate()
    settings = TrainingSpec(env_steps=64, env={"position_scale": 12.0}).model_dump(mode="json")
    checkpoint.save(tmp_path / "best_agent.pt", learner.state_dict(), {"kind": "policy", "settings": settings})
    return tmp_path / "best_agent.pt"


def actions_of(path: Path) -> torch.Tensor:
    loaded = checkpoint.load_policy(path)
    with torch.no_grad():
        return loaded.policy.mean(loaded.observation_normalizer.normalize(OBSERVATIONS))


@pytest.mark.parametrize("source", ["own", "rsl_rl"])
def test_onnx_gives_the_same_actions(tmp_path: Path, trained: Path, source: str) -> None:
    path = trained if source == "own" else foreign.RslPair().save(tmp_path / "model_1.pt")

    file, _ = export_policy(path, "onnx", tmp_path / "out", ENVIRONMENT)

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["observations"]
    (actions,) = session.run(["actions"], {"observations": OBSERVATIONS.numpy()})
    np.testing.assert_allclose(actions, actions_of(path), rtol=1e-5, atol=1e-5)
    (single,) = session.run(["actions"], {"observations": OBSERVATIONS[:1].numpy()})
    np.testing.assert_allclose(single, actions[:1], rtol=1e-5, atol=1e-5)


def test_torchscript_gives_the_same_actions(tmp_path: Path, trained: Path) -> None:
    file, _ = export_policy(trained, "torchscript", tmp_path / "out", ENVIRONMENT)

    actions = torch.jit.load(file)(OBSERVATIONS)

    torch.testing.assert_close(actions, actions_of(trained), rtol=1e-5, atol=1e-5)


def test_skrl_loads_its_form_and_gives_the_same_actions(tmp_path: Path, trained: Path) -> None:
    file, _ = export_policy(trained, "skrl", tmp_path / "out", ENVIRONMENT)
    model = foreign.SharedModel(policy_sizes=(256, 128, 64), value_sizes=(256, 128, 64))
    agent = foreign.skrl_agent(model)

    agent.load(str(file))

    torch.testing.assert_close(foreign.skrl_actions(agent, OBSERVATIONS), actions_of(trained), rtol=1e-5, atol=1e-5)
    # And back: what skrl would read, we read.
    torch.testing.assert_close(actions_of(file), actions_of(trained))


def test_a_policy_without_a_clip_is_not_given_to_skrl(tmp_path: Path) -> None:
    path = foreign.RslPair().save(tmp_path / "model_1.pt")

    with pytest.raises(CheckpointError, match="its normalizer does not clip"):
        export_policy(path, "skrl", tmp_path / "out", ENVIRONMENT)


def test_an_unknown_form_is_named(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(SpecError, match="Did you mean 'onnx'"):
        export_policy(trained, "onx", tmp_path / "out", ENVIRONMENT)


def test_the_manifest_tells_what_a_robot_must_know(tmp_path: Path, trained: Path) -> None:
    _, manifest = export_policy(trained, "torchscript", tmp_path / "out", ENVIRONMENT)

    values = fs.read_json(manifest)

    action = values["action"]
    assert (action["filter"], action["scale"], action["kp"], action["kd"]) == (0.3, 0.25, 80.0, 6.0)
    assert action["torque_limits"] == [17.0, 17.0, 34.0] * 4
    assert action["default_pose"] == [0.0, 0.9, -1.8] * 4
    assert action["joints"][:4] == ["FR_hip", "FR_thigh", "FR_calf", "FL_hip"]
    assert values["observation"]["position_scale"] == 12.0
    parts = values["observation"]["parts"]
    assert (parts[0]["first"], parts[-1]["last"]) == (0, 53)
    assert values["normalizer"]["clip"] == 5.0
    assert values["normalizer"]["mean"] == checkpoint.load(trained)["state_preprocessor"]["running_mean"].tolist()
    assert values["checkpoint"]["sha256"] == fs.sha256(trained)


def test_a_manifest_is_enough_to_act_without_this_program(tmp_path: Path, trained: Path) -> None:
    file, manifest = export_policy(trained, "skrl", tmp_path / "out", ENVIRONMENT)
    scale = fs.read_json(manifest)["normalizer"]
    weights = torch.load(file, weights_only=True)["policy"]

    x = (OBSERVATIONS.double() - torch.tensor(scale["mean"]).double()) / (
        torch.tensor(scale["variance"]).double().sqrt() + scale["epsilon"]
    )
    x = x.clamp(-scale["clip"], scale["clip"]).float()
    for name in ("policy_net.0", "policy_net.2", "policy_net.4", "mean_layer"):
        x = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        x = torch.nn.functional.elu(x) if name in ("policy_net.0", "policy_net.2") else x

    torch.testing.assert_close(x, actions_of(trained), rtol=1e-4, atol=1e-5)


def test_the_layout_is_that_of_the_environment() -> None:
    # A robot with recognizable numbers, seen by the environment and put together by the manifest's table.
    env = make_vbot(1)
    env.reset()
    place(env, position=(1.0, 2.0, 0.3), target=(3.5, 2.25), velocity=(0.1, 0.2, 0.3), spin=(0.4, 0.5, 0.6))
    observation = env.observe()[0]

    expected: list[Any] = [
        [0.1, 0.2, 0.3],
        [0.4, 0.5, 0.6],
        [0.0, 0.0, -1.0],
        [0.0] * 12,
        [0.0] * 12,
        [0.0] * 12,
        [1.0, 0.25],
        [0.0],
        [2.5, 0.25],
        [0.0],
        [math.hypot(2.5, 0.25)],
        [0.0],
        [0.0],
    ]
    factors = {"1 / position_scale": 1 / 5.0, "1 / pi": 1 / math.pi}
    numbers: list[float] = []
    for (_, count, factor), part in zip(OBSERVATION_LAYOUT, expected, strict=True):
        assert len(part) == count
        numbers += [value * (factors[factor] if factor in factors else float(factor)) for value in part]
    torch.testing.assert_close(observation, torch.tensor(numbers), rtol=1e-5, atol=1e-5)
