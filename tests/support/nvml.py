"""The driver's library with the GPUs a test needs, put where `pynvml` keeps the loaded one: its code runs for real."""

from __future__ import annotations

from dataclasses import dataclass

import pynvml

GB = 1_000_000_000


@dataclass
class FakeGpu:
    """What a GPU tells; None makes the library answer that it is not supported, a lost one answers nothing."""

    uuid: str = "GPU-aaaa-1111"
    name: str = "NVIDIA Test 80GB"
    used: int = 8 * GB
    total: int = 80 * GB
    busy: int | None = 95
    celsius: int | None = 61
    slowdown: int | None = 0
    lost: bool = False


class FakeLibrary:
    """Stands for ``libnvidia-ml.so.1``: functions of C that fill what is passed by reference."""

    def __init__(self, *gpus, driver=True):
        self.gpus, self.driver, self.open, self.calls = list(gpus), driver, 0, 0

    def install(self, monkeypatch):
        """Make pynvml call this library for the time of a test."""
        monkeypatch.setattr(pynvml, "nvmlLib", self)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        return self

    def nvmlInitWithFlags(self, flags):  # noqa: N802
        if not self.driver:
            return pynvml.NVML_ERROR_DRIVER_NOT_LOADED
        self.open += 1
        self.calls += 1
        return pynvml.NVML_SUCCESS

    def nvmlShutdown(self):  # noqa: N802
        self.open -= 1
        return pynvml.NVML_SUCCESS

    def nvmlErrorString(self, result):  # noqa: N802
        return b"error"

    def nvmlDeviceGetCount_v2(self, count):  # noqa: N802
        count._obj.value = len(self.gpus)
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):  # noqa: N802
        if self.gpus[index.value].lost:
            return pynvml.NVML_ERROR_GPU_IS_LOST
        handle._obj.contents = pynvml.struct_c_nvmlDevice_t()
        self._handles = {**getattr(self, "_handles", {}), id(handle._obj): self.gpus[index.value]}
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetUUID(self, handle, text, size):  # noqa: N802
        text.value = self._gpu(handle).uuid.encode()
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetName(self, handle, text, size):  # noqa: N802
        text.value = self._gpu(handle).name.encode()
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetMemoryInfo(self, handle, memory):  # noqa: N802
        gpu = self._gpu(handle)
        memory._obj.used, memory._obj.total, memory._obj.free = gpu.used, gpu.total, gpu.total - gpu.used
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetUtilizationRates(self, handle, rates):  # noqa: N802
        return _answer(self._gpu(handle).busy, rates, "gpu")

    def nvmlDeviceGetTemperature(self, handle, sensor, celsius):  # noqa: N802
        return _answer(self._gpu(handle).celsius, celsius)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle, reasons):  # noqa: N802
        return _answer(self._gpu(handle).slowdown, reasons)

    def _gpu(self, handle):
        return self._handles[id(handle)]


def _answer(value, out, name="value"):
    if value is None:
        return pynvml.NVML_ERROR_NOT_SUPPORTED
    setattr(out._obj, name, value)
    return pynvml.NVML_SUCCESS
