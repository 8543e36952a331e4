"""The first signal asks the study to stop, the second kills its workers."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def stop_signals(heard: Callable[[str], None]) -> Iterator[None]:
    """Call ``heard`` with the signal's name at each SIGINT and SIGTERM in the block, then put the old handlers back.

    Args:
        heard: Must only take a note: it runs between two instructions of whatever is going on.

    Outside the main thread Python allows no handlers, and the block runs without.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        heard(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
