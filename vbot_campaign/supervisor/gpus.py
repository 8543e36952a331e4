"""GPUs as NVML sees them: which there are, and how full, busy and hot they are.

NVML makes no CUDA context, so whoever asks takes no memory on a GPU. Every call opens and closes the library by
itself; NVML counts its users, so threads need no agreement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pynvml

MB = 1e6

SLOWDOWNS = {
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "too hot: the hardware halves the clock",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "too hot: the driver lowers the clock",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "the power supply asks for less",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "the hardware lowers the clock",
}
"""What takes speed away. The power cap is not among them: a GPU at full load is at its cap and is well."""


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one instant. What the driver does not tell is None."""

    index: int
    """NVML's, by PCI bus; the number in the name of a slot."""
    uuid: str
    name: str
    memory_used_mb: float
    memory_total_mb: float
    utilisation: float | None
    """Share of the last sample period in which a kernel ran, 0..1."""
    temperature_c: float | None
    throttled: str | None
    """Why the GPU runs slower than it could, in words; None when it does not."""


class Nvml(Protocol):
    """The part of NVML that every caller needs; `pynvml` is one."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> Any:  # noqa: N802
        """Load the driver's library."""

    def nvmlShutdown(self) -> Any:  # noqa: N802
        """Unload it."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Return the number of GPUs."""

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        """Return a GPU."""

    def nvmlDeviceGetUUID(self, handle: Any) -> str | bytes:  # noqa: N802
        """Return its UUID."""


def gpu_uuids(nvml: Nvml = pynvml) -> list[str]:
    """Return the UUIDs of all GPUs in NVML's order (by PCI bus); none without a driver."""
    try:
        with _opened(nvml):
            handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
            return [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except nvml.NVMLError:
        return []


def read_gpus() -> list[GpuReading]:
    """Return a reading of every GPU that answers; none without a driver. Takes milliseconds, and never raises."""
    try:
        with _opened(pynvml):
            readings = [_read(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    return [reading for reading in readings if reading is not None]


@contextmanager
def _opened(nvml: Nvml) -> Iterator[None]:
    nvml.nvmlInit()
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def _read(index: int) -> GpuReading | None:
    """Return what a GPU tells, or None of one that fell off the bus."""
    try:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid, memory = _text(pynvml.nvmlDeviceGetUUID(gpu)), pynvml.nvmlDeviceGetMemoryInfo(gpu)
    except pynvml.NVMLError:
        return None
    name = _answer(pynvml.nvmlDeviceGetName, gpu)
    busy = _answer(pynvml.nvmlDeviceGetUtilizationRates, gpu)
    slow = _answer(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, gpu)
    heat = _answer(pynvml.nvmlDeviceGetTemperature, gpu, pynvml.NVML_TEMPERATURE_GPU)
    return GpuReading(
        index=index,
        uuid=uuid,
        name="GPU" if name is None else _text(name),
        memory_used_mb=memory.used / MB,
        memory_total_mb=memory.total / MB,
        utilisation=None if busy is None else busy.gpu / 100.0,
        temperature_c=None if heat is None else float(heat),
        throttled=None if slow is None else _slowdown(slow),
    )


def _answer(ask: Callable[..., Any], *arguments: Any) -> Any | None:
    try:
        return ask(*arguments)
    except pynvml.NVMLError:
        return None  # not every GPU, driver and container answers everything


def _slowdown(reasons: int) -> str | None:
    return next((words for bit, words in SLOWDOWNS.items() if reasons & bit), None)


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
