"""A real HTTP server that takes apprise's JSON messages, or does not."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import apprise

# Its plug-ins are loaded here, and not in the seconds that a supervisor has for its last messages.
apprise.Apprise().add("json://localhost")


class Mailbox(ThreadingHTTPServer):
    """Keeps what was posted.

    Args:
        answer: HTTP status.
        held: Posts wait for this event before they are answered.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: int = 200, held: threading.Event | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.held = held
        self.messages: list[dict[str, Any]] = []
        self.arrived = threading.Event()
        """Set with the first post, answered or not."""

    @property
    def url(self) -> str:
        """Its apprise address, with a password; a busy machine has time to answer."""
        return f"json://user:s3cret@127.0.0.1:{self.server_port}/hook?cto=60&rto=60"

    @property
    def titles(self) -> list[str]:
        """Titles of the messages, without the machine."""
        return [message["title"].partition(": ")[2] for message in self.messages]


class _Handler(BaseHTTPRequestHandler):
    server: Mailbox

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.arrived.set()
        if self.server.held is not None:
            self.server.held.wait(240)
        with contextlib.suppress(OSError):  # the sender has gone
            self.send_response(self.server.answer)
            self.end_headers()
        self.server.messages.append(json.loads(body))

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def mailbox(answer: int = 200, held: threading.Event | None = None) -> Iterator[Mailbox]:
    """Run a mailbox for the block."""
    server = Mailbox(answer, held)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        if held is not None:
            held.set()
        server.shutdown()
        thread.join()
        server.server_close()
