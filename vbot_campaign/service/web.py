"""The service as a whole: its lock, its main loop, its pages and its signals."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vbot_campaign.errors import CampaignError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.service.lock import alone
from vbot_campaign.service.pages import ServicePages
from vbot_campaign.service.readings import Readings
from vbot_campaign.service.service import Service
from vbot_campaign.service.shares import machine_shares
from vbot_campaign.service.systemd import ServiceManager
from vbot_campaign.study.submissions import opened
from vbot_campaign.supervisor.signals import stop_signals
from vbot_campaign.watch.address import Address, check_port
from vbot_campaign.watch.guard import Guard
from vbot_campaign.watch.server import QuietHandler, ThreadedServer, check_exposure

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

DEFAULT_PORT = 8090
REQUEST_S = 30.0
"""Time for a client to send its request, or to take the answer."""


@dataclass(frozen=True)
class Settings:
    """The options of `serve`."""

    host: str = "127.0.0.1"
    """Address that the pages listen on. One that other machines can reach needs a token."""
    port: int = DEFAULT_PORT
    """0 lets the system choose."""
    token: str | None = None
    """Secret that each request must carry."""
    parallel: int = 1
    """Studies at the same time."""


class _Handler(QuietHandler):
    """Gives up on a client that says nothing, so that no number of them can hold all threads."""

    timeout = REQUEST_S


def serve(
    paths: CampaignPaths, settings: Settings, *, ready: Callable[[Address], None], say: Callable[[str], None]
) -> None:
    """Run what is in the queue until SIGTERM or SIGINT, which stops the running studies with checkpoints.

    Args:
        paths: The runs folder.
        settings: Options.
        ready: Called once with the address as soon as the pages answer.
        say: Hears every step in words.

    Raises:
        FolderBusyError: There is a service for this folder already.
        CampaignError: A reachable host without a token, a taken port, or more studies than the machine has parts.
        StorageError: The database cannot be used.
    """
    check_port(settings.port)
    check_exposure(settings.host, settings.port, settings.token, page="service")
    shares = machine_shares(settings.parallel)
    with alone(paths), opened(paths) as queue:
        service = Service(paths, queue, shares, manager=ServiceManager(os.environ), say=say)
        with stop_signals(service.hear), contextlib.closing(Readings(paths, queue)) as readings:
            pages = ServicePages(paths, readings, service.pulse)
            with answering(settings, pages) as address:
                ready(address)
                service.run()


@contextlib.contextmanager
def answering(settings: Settings, pages: WSGIApplication) -> Iterator[Address]:
    """Serve pages behind the guard for the block, and yield their address.

    Raises:
        CampaignError: The port is taken, or the host is not one of this machine.
    """
    guard = Guard(pages, token=settings.token, allow_edit=False, way_out="the queue is changed by submit and cancel")
    server = _listen(settings, guard)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="pages", daemon=True)
    thread.start()
    try:
        yield Address(settings.host, server.server_port, settings.port or server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _listen(settings: Settings, application: WSGIApplication) -> ThreadedServer:
    # The very port that was asked for: a monitor looks there, and two services that change places mislead it.
    host, port = settings.host, settings.port
    try:
        server = ThreadedServer((host, port), _Handler)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise CampaignError(f"port {port} on {host} is taken or not allowed; choose another with --port.") from None
        raise CampaignError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Give an address of this machine."
        ) from None
    server.set_app(application)
    return server
