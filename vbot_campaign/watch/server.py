"""A small threaded web server for WSGI applications on this machine."""

from __future__ import annotations

import socketserver
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from vbot_campaign.errors import CampaignError
from vbot_campaign.watch.address import is_loopback


class QuietHandler(WSGIRequestHandler):
    """Answers without a line per request: pages and monitors ask every few seconds."""

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


class ThreadedServer(socketserver.ThreadingMixIn, WSGIServer):
    """A thread for each request; those that are left end with the process."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Listen without asking the name service for our own name, which can take seconds and is used nowhere."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


def check_exposure(host: str, port: int, token: str | None, *, page: str) -> None:
    """Refuse a page that other machines could open without a secret.

    Args:
        host: Where it would listen.
        port: For the tunnel that is proposed.
        token: Secret that each request must carry.
        page: What it is called, for the message.

    Raises:
        CampaignError: A reachable host without a token, or an empty token.
    """
    if token is not None and not token.strip():
        raise CampaignError("--token: is empty; give a secret of at least a few letters.")
    if token is None and not is_loopback(host):
        raise CampaignError(
            f"--host {host}: other machines could read every study, for the {page} has no login. "
            f"Add --token SECRET, or keep 127.0.0.1 and use a tunnel: ssh -L {port}:127.0.0.1:{port} THIS_MACHINE"
        )
