"""GPUs read through NVML: the package is real, the driver's library below it is not."""

from __future__ import annotations

import pynvml
import pytest

from tests.support.nvml import FakeGpu, FakeLibrary
from vbot_campaign.supervisor.gpus import GpuReading, gpu_uuids, read_gpus


def test_a_gpu_is_read_in_full(monkeypatch):
    library = FakeLibrary(FakeGpu(), FakeGpu("GPU-bbbb", celsius=88)).install(monkeypatch)
    first, second = read_gpus()
    assert first == GpuReading(0, "GPU-aaaa-1111", "NVIDIA Test 80GB", 8_000.0, 80_000.0, 0.95, 61.0, None)
    assert (second.index, second.uuid, second.temperature_c) == (1, "GPU-bbbb", 88.0)
    assert gpu_uuids() == ["GPU-aaaa-1111", "GPU-bbbb"]
    assert library.open == 0, "the library is closed again"


def test_what_a_gpu_does_not_tell_is_none(monkeypatch):
    FakeLibrary(FakeGpu(busy=None, celsius=None, slowdown=None)).install(monkeypatch)
    (gpu,) = read_gpus()
    assert (gpu.utilisation, gpu.temperature_c, gpu.throttled) == (None, None, None)
    assert gpu.memory_total_mb == 80_000.0


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (pynvml.nvmlClocksThrottleReasonHwThermalSlowdown | pynvml.nvmlClocksThrottleReasonHwSlowdown, "too hot"),
        (pynvml.nvmlClocksThrottleReasonSwThermalSlowdown, "the driver lowers the clock"),
        (pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown, "power supply"),
    ],
)
def test_a_throttled_gpu_says_why(monkeypatch, bits, words):
    FakeLibrary(FakeGpu(slowdown=bits)).install(monkeypatch)
    assert words in read_gpus()[0].throttled


def test_a_busy_gpu_at_its_power_cap_and_an_idle_one_are_not_throttled(monkeypatch):
    power_cap, idle = pynvml.nvmlClocksThrottleReasonSwPowerCap, pynvml.nvmlClocksThrottleReasonGpuIdle
    FakeLibrary(FakeGpu(slowdown=power_cap), FakeGpu(slowdown=idle)).install(monkeypatch)
    assert [gpu.throttled for gpu in read_gpus()] == [None, None]


def test_a_gpu_that_fell_off_the_bus_hides_no_other(monkeypatch):
    FakeLibrary(FakeGpu(lost=True), FakeGpu("GPU-bbbb")).install(monkeypatch)
    assert [(gpu.index, gpu.uuid) for gpu in read_gpus()] == [(1, "GPU-bbbb")]


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    FakeLibrary(driver=False).install(monkeypatch)
    assert read_gpus() == []
    assert gpu_uuids() == []
