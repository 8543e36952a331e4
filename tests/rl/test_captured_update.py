"""An update that is recorded once and replayed trains exactly as one that is not."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch

from tests.rl.test_ppo import make_batch, make_policy, with_ratios
from vbot_campaign.rl.captured_update import Capture, Work
from vbot_campaign.rl.policy import ActorCritic
from vbot_campaign.rl.ppo import PpoUpdate, UpdateStats
from vbot_campaign.rl.rollout import Batch
from vbot_campaign.spec.training import PpoSettings

SCHEDULES = ("none", "linear", "kl_adaptive")
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def run_again(work: Work, device: torch.device) -> Work:
    """What a CUDA graph is to a GPU, on a CPU: the same work on the same tensors."""
    work()
    return work


def batches(device: torch.device = CPU) -> list[Batch]:
    """Three batches that differ."""
    worked = [with_ratios(make_batch(make_policy()), [ratio] * 64) for ratio in (0.9, 1.0, 1.2)]
    return [Batch(*(tensor.to(device) for tensor in vars(batch).values())) for batch in worked]


def make_settings(changes: dict[str, Any]) -> PpoSettings:
    return PpoSettings.model_validate({"learning_rate": 1e-3, "lr_scheduler_type": "none", **changes})


class Trained:
    """A policy and its update, with all that they leave behind."""

    def __init__(self, capture: Capture | None, device: torch.device = CPU, **settings: Any) -> None:
        self.policy: ActorCritic = make_policy().to(device)
        self.ppo = PpoUpdate(self.policy, make_settings(settings), iterations=5, capture=capture)
        if capture is None:
            self.ppo.capture = None
        self.order = torch.Generator(device).manual_seed(3)
        self.records: list[list[float]] = []

    def learn(self, batch: Batch) -> Trained:
        self.records.append(self.ppo.update(batch, self.order).tolist())
        return self

    def numbers(self) -> dict[str, torch.Tensor]:
        moments = self.ppo.state_dict()["state"]
        return {
            **{name: p.detach().cpu() for name, p in self.policy.named_parameters()},
            **{f"{index}.{name}": t.cpu() for index, state in moments.items() for name, t in state.items()},
            "rate": self.ppo.schedule.rate.cpu(),
            "records": torch.tensor(self.records, dtype=torch.float64),
        }


def assert_same(found: Trained, expected: Trained, tolerance: float = 0.0) -> None:
    ours, theirs = found.numbers(), expected.numbers()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(
            ours[name], tensor, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("mixed", [False, True])
def test_replayed_updates_are_those_that_were_not_recorded(schedule: str, mixed: bool) -> None:
    settings = {"lr_scheduler_type": schedule, "mini_batches": 3, "mixed_precision": mixed}
    replayed, plain = Trained(run_again, **settings), Trained(None, **settings)

    for batch in batches():
        assert_same(replayed.learn(batch), plain.learn(batch))

    assert replayed.records[0] != replayed.records[1]


def test_recording_trains_nothing() -> None:
    def warm_up_only(work: Work, device: torch.device) -> Work:
        record = work()
        return lambda: record

    trained = Trained(warm_up_only, lr_scheduler_type="kl_adaptive")
    before = copy.deepcopy(trained.policy.state_dict())

    trained.learn(batches()[0])

    for name, tensor in trained.policy.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    state = trained.ppo.state_dict()["state"]
    assert len(state) == len(before)
    assert not any(tensor.any() for moments in state.values() for tensor in moments.values())
    assert trained.ppo.schedule.state_dict() == {"epochs": 0, "learning_rate": 1e-3, "first_rate": 1e-3}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_state_continues_in_another_recording(schedule: str) -> None:
    first, second, third = batches()
    whole = Trained(None, lr_scheduler_type=schedule).learn(first).learn(second)
    began = Trained(run_again, lr_scheduler_type=schedule).learn(first)
    # The one that takes over has recorded its own update before.
    resumed = Trained(run_again, lr_scheduler_type=schedule).learn(third)

    take_over(resumed, began)
    resumed.learn(second)

    resumed.records = whole.records
    assert_same(resumed, whole)


def take_over(pupil: Trained, teacher: Trained) -> None:
    """Continue from a state as `Learner.load_state_dict` does."""
    pupil.policy.load_state_dict(teacher.policy.state_dict())
    pupil.ppo.schedule.load_state_dict(teacher.ppo.schedule.state_dict())
    pupil.ppo.load_state_dict(teacher.ppo.state_dict())
    pupil.order.set_state(teacher.order.get_state())


def test_a_recording_that_fails_costs_speed_only(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(work: Work, device: torch.device) -> Work:
        work()
        raise RuntimeError("operation not permitted when stream is capturing")

    trained, plain = Trained(refuse), Trained(None)
    with caplog.at_level(logging.WARNING):
        for batch in batches():
            assert_same(trained.learn(batch), plain.learn(batch))

    assert [record.message for record in caplog.records] == [
        "the update cannot be captured (operation not permitted when stream is capturing); going on without"
    ]


def test_an_update_that_may_end_early_is_not_recorded() -> None:
    def never(work: Work, device: torch.device) -> Work:
        raise AssertionError("recorded")

    settings = {"kl_threshold": 0.002, "learning_rate": 0.05}
    assert_same(Trained(never, **settings).learn(batches()[0]), Trained(None, **settings).learn(batches()[0]))


def test_optimizer_states_of_older_checkpoints_and_of_gpus_are_taken() -> None:
    # A plain number as learning rate, and a flag for a capture, are what other writers left in the options.
    plain = Trained(None).learn(batches()[0])
    older = plain.ppo.state_dict()
    assert older["param_groups"][0]["lr"] == 1e-3
    assert older["param_groups"][0]["capturable"] is False
    older["param_groups"][0].update(lr=0.5, capturable=True)
    pupil = Trained(None)
    pupil.policy.load_state_dict(plain.policy.state_dict())
    pupil.order.set_state(plain.order.get_state())

    pupil.ppo.load_state_dict(older)

    assert pupil.ppo.optimizer.param_groups[0]["lr"].item() == 1e-3
    pupil.records = list(plain.records)
    assert_same(pupil.learn(batches()[1]), plain.learn(batches()[1]))


def test_a_state_that_was_taken_does_not_move_with_later_updates() -> None:
    teacher, pupil = Trained(None).learn(batches()[0]), Trained(None)
    state = teacher.ppo.state_dict()
    moment = state["state"][0]["exp_avg"].clone()

    pupil.ppo.load_state_dict(state)
    pupil.learn(batches()[1])

    assert torch.equal(state["state"][0]["exp_avg"], moment)


# On a GPU: against the same updates without a graph.


def on_gpu(*, graph: bool, **settings: Any) -> Trained:
    trained = Trained(None, GPU, **settings)
    if graph:
        trained.ppo = PpoUpdate(trained.policy, make_settings(settings), iterations=5)
    return trained


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("mixed", [False, True])
def test_a_cuda_graph_trains_like_single_kernels(schedule: str, mixed: bool) -> None:
    settings = {"lr_scheduler_type": schedule, "mini_batches": 3, "mixed_precision": mixed}
    graph, eager = on_gpu(graph=True, **settings), on_gpu(graph=False, **settings)

    for batch in batches(GPU):
        assert_same(graph.learn(batch), eager.learn(batch), 1e-6)

    assert graph.ppo.capture is not None, "the capture was refused"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_cuda_graph_continues_in_the_middle(schedule: str) -> None:
    first, second, third = batches(GPU)
    eager = on_gpu(graph=False, lr_scheduler_type=schedule).learn(first).learn(second)
    began = on_gpu(graph=True, lr_scheduler_type=schedule).learn(first)
    resumed = on_gpu(graph=True, lr_scheduler_type=schedule).learn(third)

    take_over(resumed, began)
    resumed.learn(second)

    resumed.records = eager.records
    assert_same(resumed, eager, 1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_continues_what_a_cpu_began_and_the_other_way_round() -> None:
    for began, resumed in ((Trained(None), on_gpu(graph=True)), (on_gpu(graph=True), Trained(None))):
        device = began.order.device
        began.learn(batches(device)[0])

        resumed.policy.load_state_dict(began.policy.state_dict())
        resumed.ppo.load_state_dict(began.ppo.state_dict())

        resumed.records = began.records
        assert_same(resumed, began)
        resumed.learn(batches(resumed.order.device)[1])
        assert UpdateStats.from_record(resumed.records[-1], iteration=2).gradient_steps == 20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_an_update_on_a_gpu_does_not_wait() -> None:
    graph, eager = on_gpu(graph=True), on_gpu(graph=False)
    for trained in (graph, eager):
        trained.learn(batches(GPU)[0])
        batch = batches(GPU)[1]
        torch.cuda.set_sync_debug_mode("error")
        try:
            record = trained.ppo.update(batch, trained.order)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert record.device.type == "cuda"
