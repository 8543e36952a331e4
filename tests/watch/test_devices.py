"""What the slots run on: a real process on a CPU slot, and GPUs as NVML tells of them."""

from __future__ import annotations

import os
import socket
import time

import psutil
import pynvml
import pytest

from tests.support.nvml import GB, FakeGpu, FakeLibrary
from tests.support.snapshots import START, make_attempt, make_running, make_snapshot
from vbot_campaign.study.owner import process_started
from vbot_campaign.watch.devices import DeviceReader
from vbot_campaign.watch.slot_table import slot_lines


def test_the_worker_of_a_cpu_slot_is_measured() -> None:
    mine = make_attempt(ended=None, slot="cpu:1", pid=os.getpid(), pid_started=process_started(os.getpid()))
    reader = DeviceReader()
    snapshot = make_snapshot(trials=(make_running(3, attempts=(mine,)),))
    free, busy = reader.read(snapshot)
    assert (free.slot, free.trial, free.memory_used_mb) == ("cpu:0", None, None)
    assert (busy.slot, busy.trial) == ("cpu:1", 3)
    assert busy.memory_used_mb == pytest.approx(psutil.Process().memory_info().rss / 1e6, rel=0.2)
    assert busy.memory_total_mb is not None
    assert busy.utilisation is not None
    assert busy.utilisation > 0
    until = time.monotonic() + 0.7
    spent = time.process_time()
    while time.monotonic() < until or time.process_time() - spent < 0.1:
        pass
    again = reader.read(snapshot)[1].utilisation
    assert again is not None
    assert 0 < again < 3, "since the last reading, not since the start"


def test_a_worker_that_is_gone_has_no_load() -> None:
    gone = make_attempt(ended=None, slot="cpu:1", pid=os.getpid(), pid_started=1.0)
    reading = DeviceReader().read(make_snapshot(trials=(make_running(3, attempts=(gone,)),)))[1]
    assert (reading.trial, reading.memory_used_mb, reading.utilisation) == (3, None, None)


def test_shares_of_a_gpu_are_shown_with_what_nvml_says(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = pynvml.nvmlClocksThrottleReasonSwThermalSlowdown
    hot = FakeGpu("GPU-1", "NVIDIA H100", used=76 * GB, busy=97, celsius=88, slowdown=slow)
    FakeLibrary(FakeGpu("GPU-0"), hot).install(monkeypatch)
    attempt = make_attempt(ended=None, slot="gpu:1.1", host="box")
    snapshot = make_snapshot(trials=(make_running(12, attempts=(attempt,)),), slots=("gpu:1.0", "gpu:1.1", "gpu:2.0"))
    titles, first, second, third = (line.plain for line in slot_lines(DeviceReader().read(snapshot)))
    assert titles == "slot     trial         memory  load   temp  device"
    assert first.split()[:9] == ["gpu:1.0", "free", "76.0", "of", "80", "GB", "97%", "88", "°C"]
    assert second.split()[:2] == ["gpu:1.1", "12"]
    assert second.endswith("NVIDIA H100, slowed: too hot: the driver lowers the clock")
    assert third.endswith("does not answer")


def test_what_another_host_runs_on_is_not_ours_to_read() -> None:
    supervisor = {"host": f"not-{socket.gethostname()}", "pid": 7, "started": START}
    readings = DeviceReader().read(make_snapshot(trials=(make_running(0),), supervisor=supervisor))
    assert [reading.device for reading in readings] == [f"on not-{socket.gethostname()}"] * 2
    assert [reading.trial for reading in readings] == [None, 0]
