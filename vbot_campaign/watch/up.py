"""Dashboard and TensorBoard together, from one command to one Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from vbot_campaign.errors import CampaignError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.watch import tensorboard
from vbot_campaign.watch.address import Address, check_port, free_port
from vbot_campaign.watch.dashboard import Dashboard, open_dashboard

_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Addresses:
    """Where both are."""

    dashboard: Address
    tensorboard: Address


def serve(
    paths: CampaignPaths,
    name: str | None,
    *,
    host: str,
    port: int,
    tensorboard_port: int,
    token: str | None,
    allow_edit: bool,
    ready: Callable[[Addresses], None],
    say: Callable[[str], None],
) -> None:
    """Serve both until SIGINT, SIGTERM or SIGHUP, which ends both.

    TensorBoard is a child process. When it ends by itself, that is said, and the dashboard goes on; with the dashboard
    TensorBoard ends too.

    Args:
        paths: The runs folder.
        name: The study whose curves TensorBoard shows, or None for everything.
        host: Where the dashboard listens, see `open_dashboard`. TensorBoard has no login and stays on this machine.
        port: Wanted port of the dashboard.
        tensorboard_port: Wanted port of TensorBoard.
        token: See `open_dashboard`.
        allow_edit: See `open_dashboard`.
        ready: Called once with both addresses.
        say: Takes a line when TensorBoard has ended by itself.

    Raises:
        StudyNotFoundError: There is nothing to show.
        CampaignError: A port or host cannot be used.
    """
    if port == tensorboard_port != 0:
        raise CampaignError(f"--port {port}: is also --tensorboard-port; give each its own.")
    check_port(tensorboard_port)
    folder = tensorboard.log_folder(paths, name)
    address = free_port(tensorboard.HOST, tensorboard_port)
    dashboard = open_dashboard(paths, host=host, port=port, token=token, allow_edit=allow_edit, tensorboard=address.url)
    with contextlib.closing(dashboard), tempfile.TemporaryFile() as printed:
        # In a session of its own, so that a Ctrl-C reaches it only from here and is no death to be told of.
        process = subprocess.Popen(
            tensorboard.command(folder, address), stdout=printed, stderr=printed, start_new_session=True
        )
        with _ending(process), _told_of_its_end(process, printed, say), _stopped_by_signals(dashboard):
            ready(Addresses(dashboard.address, address))
            dashboard.serve_forever()


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _told_of_its_end(
    process: subprocess.Popen[bytes], printed: IO[bytes], say: Callable[[str], None]
) -> Iterator[None]:
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            code = process.poll()
            if code is not None:
                printed.seek(0)
                last = printed.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
                why = f": {last}" if last else ""
                say(f"TensorBoard has ended (exit code {code}){why}. The dashboard goes on.")
                return

    thread = threading.Thread(target=watch, name="TensorBoard's end")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _stopped_by_signals(dashboard: Dashboard) -> Iterator[None]:
    def stop(*_: object) -> None:
        # `shutdown` waits for the loop, which this handler interrupts.
        threading.Thread(target=dashboard.shutdown).start()

    main = threading.current_thread() is threading.main_thread()
    names = ("SIGINT", "SIGTERM", "SIGHUP") if main else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
