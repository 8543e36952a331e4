"""GPUs, cores, memory, clock and ports."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence

import psutil
import pynvml

from vbot_campaign.supervisor.gpus import GpuReading, read_gpus
from vbot_campaign.supervisor.slots import available_cores
from vbot_campaign.watch.doctor import Check, Level

BUSY_MEMORY = 0.5
LOW_MEMORY_GB = 2.0
HOT_C = 85.0
CLOCK_S = 0.5
DRIFT = 0.02
"""Share by which the wall clock may run faster or slower than the monotonic one while it is watched."""
PORTS = (("dashboard", 8080), ("tensorboard", 6006))


def gpus(readings: Sequence[GpuReading] | None = None) -> Iterator[Check]:
    """Ask NVML for every GPU."""
    readings = read_gpus() if readings is None else readings
    if not readings:
        yield Check("GPUs", Level.OK, "none; trials run on the CPU")
    for gpu in readings:
        yield _gpu(gpu)
    if readings:
        yield Check("driver", Level.OK, _driver())


def _gpu(gpu: GpuReading) -> Check:
    used = gpu.memory_used_mb / gpu.memory_total_mb if gpu.memory_total_mb else 0.0
    busy = f", {gpu.utilisation:.0%} busy" if gpu.utilisation is not None else ""
    heat = f", {gpu.temperature_c:.0f} C" if gpu.temperature_c is not None else ""
    memory = f"{gpu.memory_used_mb / 1000:.1f} of {gpu.memory_total_mb / 1000:.1f} GB in use"
    found, name = f"{gpu.name}, {memory}{busy}{heat}", f"GPU {gpu.index}"
    if gpu.throttled:
        advice = "Look at cooling and power; nvidia-smi -q -d PERFORMANCE says more."
        return Check(name, Level.WARN, f"{found}; {gpu.throttled}", advice)
    if gpu.temperature_c is not None and gpu.temperature_c > HOT_C:
        return Check(name, Level.WARN, found, "Look at its cooling: it will slow down.")
    if used > BUSY_MEMORY:
        return Check(
            name, Level.WARN, found, "Somebody else uses it (nvidia-smi shows who); trials may run out of memory."
        )
    return Check(name, Level.OK, found)


def _driver() -> str:
    try:
        pynvml.nvmlInit()
        try:
            version = pynvml.nvmlSystemGetDriverVersion()
            cuda = pynvml.nvmlSystemGetCudaDriverVersion()
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return f"does not tell its version ({error})"
    text = version.decode(errors="replace") if isinstance(version, bytes) else version
    return f"{text}, for CUDA up to {cuda // 1000}.{cuda % 1000 // 10}"


def cores() -> Iterator[Check]:
    """Ask how many cores this process may use, and whether somebody else uses them."""
    mine, all_ = available_cores(), os.cpu_count() or 1
    limit = f" of {all_} (affinity or a container's quota)" if mine < all_ else ""
    found = f"{mine}{limit}"
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        found += f", load {load:.1f}"
        if load > mine:
            advice = "Other programs use them; trials will be slower than they could be. top shows who."
            yield Check("cores", Level.WARN, found, advice)
            return
    yield Check("cores", Level.OK, found)


def memory() -> Iterator[Check]:
    """Ask how much memory is free."""
    seen = psutil.virtual_memory()
    found = f"{seen.available / 1e9:.1f} of {seen.total / 1e9:.1f} GB free"
    if seen.available < LOW_MEMORY_GB * 1e9:
        advice = "A worker takes 0.5 GB or more; run fewer at once (workers: slots) or close other programs."
        yield Check("memory", Level.WARN, found, advice)
    else:
        yield Check("memory", Level.OK, found)


def clock(
    wall: Callable[[], float] = time.time,
    steady: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Check]:
    """Watch the wall clock beside the monotonic one for half a second."""
    wall_begun, steady_begun = wall(), steady()
    sleep(CLOCK_S)
    passed, real = wall() - wall_begun, steady() - steady_begun
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall()))
    if abs(passed - real) > DRIFT * real + 0.01:
        found += f"; it moved {passed:.2f} s while {real:.2f} s passed"
        advice = "Let one service set the time (timedatectl, chronyd). Budgets use the steady clock and stay right."
        yield Check("clock", Level.WARN, found, advice)
    else:
        yield Check("clock", Level.OK, found)


def ports(wanted: Sequence[tuple[str, int]] = PORTS) -> Iterator[Check]:
    """Ask whether the pages' usual ports are free."""
    taken = [f"{port} ({page})" for page, port in wanted if not is_free(port)]
    if taken:
        advice = "Nothing to do: the next free port is taken, or choose one with --port."
        yield Check("ports", Level.WARN, f"in use: {', '.join(taken)}", advice)
    else:
        yield Check("ports", Level.OK, f"{' and '.join(str(port) for _, port in wanted)} are free")


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a port of this machine."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
