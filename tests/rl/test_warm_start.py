"""What a training takes over from another one, and what of it does not change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.toy_env import PointEnv
from vbot_campaign.errors import CheckpointError
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.learner import Learner
from vbot_campaign.spec.training import PpoSettings, WarmStartRules

SIZES = {"policy_hidden_layer_sizes": (16, 16), "value_hidden_layer_sizes": (16, 16)}


def learner(*, seed: int = 3, freeze: tuple[str, ...] = (), iterations: int = 10, **settings: object) -> Learner:
    ppo = PpoSettings.model_validate({"rollouts": 8, **SIZES, **settings})
    return Learner(PointEnv(16, seed=1), ppo, iterations=iterations, seed=seed, freeze=freeze)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return the checkpoint of a training after 6 of 10 iterations at a linear rate of 1e-3."""
    trained = learner(seed=9, lr_scheduler_type="linear", learning_rate=1e-3)
    for _ in range(6):
        trained.iterate()
    path = tmp_path_factory.mktemp("source") / "best_agent.pt"
    settings = {"ppo": trained.settings.model_dump(mode="json")}
    checkpoint.save(path, trained.state_dict(), {"kind": "policy", "settings": settings})
    return checkpoint.load(path)


def weights(one: Learner, part: str) -> dict[str, torch.Tensor]:
    """Return copies of the weights of the policy or of the value function."""
    named = one.policy.state_dict().items()
    return {name: tensor.clone() for name, tensor in named if name.startswith("value_") == (part == "value")}


def statistics(one: Learner) -> dict[str, torch.Tensor]:
    both = {"o": one.observation_normalizer, "v": one.value_normalizer}
    return {f"{k}.{name}": t.clone() for k, n in both.items() for name, t in n.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


PARTS = {
    "policy": lambda one: weights(one, "policy"),
    "value": lambda one: weights(one, "value"),
    "normalizer": statistics,
}


@pytest.mark.parametrize(
    "load", [("policy",), ("policy", "value"), ("policy", "normalizer"), ("policy", "value", "normalizer")]
)
def test_what_is_not_loaded_begins_anew(source: dict[str, object], load: tuple[str, ...]) -> None:
    fresh, whole, started = learner(), learner(), learner()
    whole.warm_start(source)

    started.warm_start(source, WarmStartRules(load=load))  # type: ignore[arg-type]

    for part, of in PARTS.items():
        assert equal(of(started), of(whole if part in load else fresh)), part
        assert not equal(of(whole), of(fresh)), part
    assert not started.state_dict()["optimizer"]["state"], "Adam starts anew"


@pytest.mark.parametrize("freeze", [("policy",), ("value",), ("normalizer",), ("policy", "normalizer")])
def test_frozen_parts_stay_bit_identical(source: dict[str, object], freeze: tuple[str, ...]) -> None:
    started = learner(freeze=freeze)
    started.warm_start(source, WarmStartRules(freeze=freeze))  # type: ignore[arg-type]
    before = {part: of(started) for part, of in PARTS.items()}

    for _ in range(3):
        started.iterate()

    for part, of in PARTS.items():
        assert equal(of(started), before[part]) == (part in freeze), part


def test_a_frozen_training_continues_exactly(source: dict[str, object], tmp_path: Path) -> None:
    def begun() -> Learner:
        one = learner(freeze=("policy",), lr_scheduler_type="linear")
        one.warm_start(source, WarmStartRules(freeze=("policy",), reset_schedule=False))
        return one

    through, first, second = begun(), begun(), learner(seed=4, freeze=("policy",), lr_scheduler_type="linear")
    for _ in range(4):
        through.iterate()
    for _ in range(2):
        first.iterate()
    checkpoint.save(tmp_path / "agent_1.pt", first.state_dict(), {})
    second.load_state_dict(checkpoint.load(tmp_path / "agent_1.pt"))
    for _ in range(2):
        second.iterate()

    assert equal(weights(second, "value"), weights(through, "value"))
    assert second.state_dict()["vbot_campaign"]["schedule"] == through.state_dict()["vbot_campaign"]["schedule"]


def test_the_optimizer_is_loaded_only_where_asked(source: dict[str, object]) -> None:
    started = learner(learning_rate=5e-4)

    started.warm_start(source, WarmStartRules(load=("policy", "value", "optimizer")))

    own, given = started.state_dict()["optimizer"], source["optimizer"]
    assert own["state"].keys() == given["state"].keys()  # type: ignore[index]
    for index, moments in own["state"].items():
        assert equal(moments, given["state"][index])  # type: ignore[index]
    assert own["param_groups"][0]["lr"] == 5e-4, "the rate is the training's own"
    started.iterate()


def test_a_schedule_that_is_not_reset_begins_where_the_other_one_was(source: dict[str, object]) -> None:
    # 6 of 10 iterations: 40 % of the rate is left.
    started = learner(learning_rate=5e-4, lr_scheduler_type="linear", iterations=4)

    started.warm_start(source, WarmStartRules(reset_schedule=False))

    rates = [started.state_dict()["optimizer"]["param_groups"][0]["lr"]]
    rates += [started.iterate().learning_rate for _ in range(4)]
    assert rates == pytest.approx([2e-4, 1.5e-4, 1e-4, 5e-5, 2e-6])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (WarmStartRules(load=("policy", "value", "optimizer")), "does not have the optimizer's state: no training of "),
        (WarmStartRules(reset_schedule=False), "position of its learning-rate schedule: .* reset_schedule: true"),
    ],
)
def test_a_file_without_it_is_refused(source: dict[str, object], rules: WarmStartRules, message: str) -> None:
    foreign = {key: value for key, value in source.items() if key != "vbot_campaign"}
    with pytest.raises(CheckpointError, match=message):
        learner().warm_start(foreign, rules)


def test_other_value_layers_do_where_they_are_not_loaded(source: dict[str, object]) -> None:
    started = learner(value_hidden_layer_sizes=(8,))
    started.warm_start(source, WarmStartRules(load=("policy", "normalizer")))
    started.iterate()
    with pytest.raises(CheckpointError, match="does not fit this training"):
        learner(value_hidden_layer_sizes=(8,)).warm_start(source)
