"""Slots of machines with and without GPUs."""

from __future__ import annotations

import pytest

from vbot_campaign.spec.study import WorkerSettings
from vbot_campaign.spec.training import ThreadSettings
from vbot_campaign.supervisor.slots import (
    Slot,
    available_cores,
    discover_slots,
    slots_to_keep,
    visible_gpus,
    worker_environment,
)

A, B, C = "GPU-aaaa-1111", "GPU-bbbb-2222", "GPU-bbcc-3333"


class FakeNvml:
    """NVML of a machine with the given GPUs; None has no driver."""

    class NVMLError(Exception):
        """Any error of the library."""

    def __init__(self, *uuids, driver=True):
        self.uuids, self.driver, self.open = uuids, driver, 0

    def nvmlInit(self):  # noqa: N802
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self):  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return self.uuids[handle].encode()  # as older versions of the library do


def names(settings, environ=None, nvml=None, cores=16):
    slots = discover_slots(WorkerSettings(**settings), environ or {}, nvml or FakeNvml(driver=False), cores)
    return [(slot.name, slot.device, slot.visible_devices, slot.threads.torch, slot.threads.physics) for slot in slots]


def test_a_machine_without_a_gpu_has_a_slot_per_core_up_to_eight():
    assert names({}, cores=2) == [("cpu:0", "cpu", "", 1, 1), ("cpu:1", "cpu", "", 1, 1)]
    assert len(names({}, cores=64)) == 8
    assert names({}, cores=64)[0][3] == 8
    assert names({"slots": 3}, cores=16) == [(f"cpu:{i}", "cpu", "", 5, 5) for i in range(3)]
    assert names({"slots": 4}, cores=2)[0][3] == 1, "more slots than cores still have a thread each"


def test_each_gpu_is_a_slot_known_by_its_uuid():
    nvml = FakeNvml(A, B)
    assert names({"slots": 5}, nvml=nvml) == [("gpu:0", "cuda:0", A, 8, 8), ("gpu:1", "cuda:0", B, 8, 8)]
    assert nvml.open == 0, "the library is closed again"


def test_shares_of_gpus_are_dealt_round():
    shares = names({"slots_per_gpu": 2}, nvml=FakeNvml(A, B))
    assert [(name, uuid, torch) for name, _, uuid, torch, _ in shares] == [
        ("gpu:0.0", A, 4),
        ("gpu:1.0", B, 4),
        ("gpu:0.1", A, 4),
        ("gpu:1.1", B, 4),
    ]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [(0, A), (1, B), (2, C)]),
        ("", []),
        ("-1", []),
        ("1", [(1, B)]),
        ("2,0", [(2, C), (0, A)]),
        ("0, 7, 1", [(0, A)]),  # as CUDA does: what follows an entry that names no GPU is hidden
        ("GPU-bbcc", [(2, C)]),
        ("GPU-bb", []),  # two begin so
        (f"{B},{A}", [(1, B), (0, A)]),
        ("MIG-1234", [(0, "MIG-1234")]),
    ],
)
def test_cuda_visible_devices_is_respected(visible, expected):
    assert visible_gpus(visible, [A, B, C]) == expected


def test_hidden_gpus_leave_the_cpu():
    assert names({}, {"CUDA_VISIBLE_DEVICES": ""}, FakeNvml(A), cores=2)[0][:2] == ("cpu:0", "cpu")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_a_container_has_the_cores_of_its_quota(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(12)))
    assert available_cores(tmp_path) == 12
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cores(tmp_path) == expected


def test_without_a_quota_the_affinity_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3, 4, 5})
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cores(tmp_path) == 3


@pytest.mark.parametrize(
    ("held", "slots", "kept"),
    [
        (["cpu:1", "cpu:0"], ["cpu:0", "cpu:1"], ["cpu:1", "cpu:0"]),
        # a slot that is gone: a free one, never one that another worker holds
        (["cpu:3", "cpu:1"], ["cpu:0", "cpu:1"], ["cpu:0", "cpu:1"]),
        (["cpu:3"], ["cpu:0", "cpu:1"], ["cpu:0"]),
        # none free: its own name, which takes no slot
        (["cpu:0", "cpu:1"], ["cpu:0"], ["cpu:0", "cpu:1"]),
        # shares of a GPU were changed: one of the same GPU goes before the first
        (["gpu:1"], ["gpu:0.0", "gpu:1.0", "gpu:0.1", "gpu:1.1"], ["gpu:1.0"]),
        (["gpu:1", "gpu:1"], ["gpu:0", "gpu:1"], ["gpu:1", "gpu:0"]),
    ],
)
def test_workers_that_run_already_keep_their_slots(held, slots, kept):
    assert slots_to_keep(held, slots) == kept


def test_a_worker_sees_its_gpu_and_its_threads_only():
    slot = Slot("gpu:1", "cuda:0", B, ThreadSettings(torch=8, physics=8))
    inherited = {"HOME": "/h", "OMP_NUM_THREADS": "64", "VBOT_CAMPAIGN_NOTIFY": "json://user:secret@host"}
    environ = worker_environment(slot, ThreadSettings(torch=2, physics=2), inherited)
    assert environ == {
        "HOME": "/h",
        "CUDA_VISIBLE_DEVICES": B,
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "PYTHONUNBUFFERED": "1",
    }
