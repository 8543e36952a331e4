"""Watches code for anything that would make it wait for a GPU; works on a CPU, where nothing has to wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

METHODS = {
    *("tolist", "item", "numpy", "cpu", "pin_memory"),
    *("__array__", "__bool__", "__float__", "__int__", "__index__", "__complex__", "__contains__"),
    *("equal", "allclose", "is_nonzero", "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive"),
    *("tensor", "as_tensor", "asarray", "from_numpy"),
}
"""Functions whose result, or its shape, the host has to know, or that bring a constant from the host."""
OPERATORS = {
    *("_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero", "masked_select"),
    *("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave", "bincount", "histc"),
}
"""The same one level below, whoever calls them."""


class HostReadError(AssertionError):
    """The code under watch would have waited for the device."""


class _Functions(TorchFunctionMode):
    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__()
        self._report = report

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in METHODS or (name in ("to", "type") and _names_a_device(args[1:], kwargs or {})):
            self._report(name)
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__()
        self._report = report

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in OPERATORS or (name.startswith("index") and _by_mask(args)):
            self._report(f"aten::{name}")
        return func(*args, **(kwargs or {}))


def _names_a_device(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    # A name is written by someone who means another device; a device object may well be the tensor's own.
    return any(isinstance(value, str) for value in (*args, *kwargs.values()))


def _by_mask(args: tuple[Any, ...]) -> bool:
    indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
    return any(isinstance(index, torch.Tensor) and index.dtype is torch.bool for index in indices)


class HostReads:
    """Counts what would read the device while it is entered.

    Args:
        allowed: Raise `HostReadError` at the one after these.
    """

    def __init__(self, *, allowed: int = 0) -> None:
        self.seen: list[str] = []
        self._allowed = allowed
        self._modes = (_Functions(self._report), _Operators(self._report))

    def __enter__(self) -> HostReads:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(kind, error, trace)

    def _report(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) > self._allowed:
            raise HostReadError(f"{name} makes the host wait for the device (seen: {', '.join(self.seen)})")


@contextmanager
def unwatched() -> Iterator[None]:
    """Let code that works on the host's own tensors alone, such as an environment."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        yield
