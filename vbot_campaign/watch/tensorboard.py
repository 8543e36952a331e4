"""TensorBoard on a study's folder."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from vbot_campaign.errors import StudyNotFoundError, did_you_mean
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.watch.address import Address, check_port, free_port

DEFAULT_PORT = 6006
HOST = "127.0.0.1"


def command(folder: Path, address: Address) -> list[str]:
    """Return the command line: a module of this interpreter, so that no script has to be on the PATH."""
    options = ["--logdir", str(folder), "--host", address.host, "--port", str(address.port)]
    return [sys.executable, "-m", "tensorboard.main", *options]


def log_folder(paths: CampaignPaths, name: str | None) -> Path:
    """Return the folder to show: one study's, or all runs.

    Raises:
        StudyNotFoundError: There is nothing to show.
    """
    if name is None:
        if not paths.root.is_dir():
            raise StudyNotFoundError(f"{paths.root}: no such folder. Start a study with `vbot-campaign run FILE`.")
        return paths.root
    folder = paths.study(name).root
    if not folder.is_dir():
        found = sorted(p.name for p in paths.root.iterdir() if p.is_dir()) if paths.root.is_dir() else []
        valid = f" In {paths.root}: {', '.join(found)}." if found else ""
        raise StudyNotFoundError(f"study '{name}': no folder {folder}.{did_you_mean(name, found)}{valid}")
    return folder


def serve(paths: CampaignPaths, name: str | None, *, port: int = DEFAULT_PORT, ready: Callable[[Address], None]) -> int:
    """Run TensorBoard on this machine's own address until it ends.

    SIGINT and SIGTERM are passed on to it. It has no login, so it never listens for other machines.

    Args:
        paths: The runs folder.
        name: A study, or None for everything.
        port: Wanted port; the next free one is taken where it is in use.
        ready: Called with the address once the process was started.

    Returns:
        TensorBoard's exit code; 0 where a signal ended it.

    Raises:
        StudyNotFoundError: There is nothing to show.
        CampaignError: No such port, or none that is free.
    """
    check_port(port)
    folder = log_folder(paths, name)
    address = free_port(HOST, port)
    process = subprocess.Popen(command(folder, address))
    with _forwarding(process) as forwarded:
        ready(address)
        code = process.wait()
    return 0 if forwarded else code


@contextlib.contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass signals on to a process for the block, and put the handlers back after it.

    Yields:
        The signals that were passed on.
    """
    forwarded: list[int] = []

    def forward(number: int, _: object) -> None:
        forwarded.append(number)
        process.send_signal(signal.SIGTERM)

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield forwarded
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.kill()
            process.wait()
