"""The driver that Ray knows: a process that does what the supervisor asks for, and may die without it."""

from __future__ import annotations

import functools
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

from vbot_campaign.supervisor.raycluster.attendant import Attendant, Launch

NAMESPACE = "vbot-campaign"
PROBE_S = 10.0
END_S = 5.0
"""Time for Ray to note that an actor is no more."""
OK, GONE, SILENT, ERROR = "ok", "gone", "silent", "error"
"""Kinds of answers: as asked; the actor is no more; nobody knows; refused for the reason that is given."""


class Bridge:
    """Answers the supervisor's requests, each when its answer is there.

    Args:
        connection: To the supervisor. When that has gone, this process ends; its actors are detached and live on.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._requests: queue.SimpleQueue[tuple[int, str, tuple[Any, ...]]] = queue.SimpleQueue()
        self._actors: dict[str, Any] = {}
        self._kills: list[threading.Thread] = []

    def run(self, address: str) -> None:
        """Connect to a cluster and answer requests until the supervisor has gone."""
        # Requests are taken from the pipe at once, so that the supervisor never waits while Ray makes this one wait.
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            _connect(address)
        except Exception as error:
            self._answer(0, ERROR, _line(error))
            return
        self._answer(0, OK, None)
        while True:
            number, operation, arguments = self._requests.get()
            self._do(number, functools.partial(getattr(self, f"_{operation}"), number, *arguments))

    def _listen(self) -> None:
        while True:
            try:
                self._requests.put(self._connection.recv())
            except (EOFError, OSError):
                os._exit(0)

    def _answer(self, number: int, kind: str, value: Any) -> None:
        with self._sending:
            try:
                self._connection.send((number, kind, value))
            except OSError:
                os._exit(0)

    def _do(self, number: int, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._answer(number, *_classify(error))

    # --- requests -----------------------------------------------------------------------------------------------

    def _nodes(self, number: int) -> None:
        self._answer(number, OK, [node["Resources"] for node in ray.nodes() if node["Alive"]])

    def _create(self, number: int, name: str, launch: Launch, demand: dict[str, Any]) -> None:
        options = ray.remote(Attendant).options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=0,
            max_task_retries=0,
            **demand,
        )
        try:
            self._actors[name] = options.remote(launch)
        except ValueError as error:
            self._answer(number, ERROR, _line(error))
        else:
            self._answer(number, OK, None)

    def _exists(self, number: int, name: str) -> None:
        try:
            self._actor(name)
        except ValueError:
            self._answer(number, OK, False)
        else:
            self._answer(number, OK, True)

    def _call(self, number: int, name: str, method: str, *arguments: Any) -> None:
        reference = getattr(self._actor(name), method).remote(*arguments)
        reference.future().add_done_callback(lambda done: self._hand_over(number, name, done))

    def _hand_over(self, number: int, name: str, done: Future[Any]) -> None:
        self._do(number, lambda: self._answer(number, OK, done.result()))

    def _destroy(self, number: int, name: str, clear_s: float) -> None:
        try:
            actor = self._actor(name)
        except ValueError:
            pass  # it is no more
        else:
            kill = threading.Thread(target=_kill, args=(name, actor, clear_s))
            kill.start()
            self._kills.append(kill)
        self._answer(number, OK, None)

    def _leave(self, number: int) -> None:
        for kill in self._kills:
            kill.join()
        self._answer(number, OK, None)

    def _actor(self, name: str) -> Any:
        if name not in self._actors:
            self._actors[name] = ray.get_actor(name, namespace=NAMESPACE)
        return self._actors[name]


def _kill(name: str, actor: Any, clear_s: float) -> None:
    # One that answers removes its files first; one that does not is killed all the same.
    if clear_s > 0:
        ray.wait([actor.clear.remote()], timeout=clear_s)
    ray.kill(actor)
    # Ray sends that later, and not at all from a process that ends at once; the actor would keep its CPU for good.
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        try:
            ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            return  # the cluster has noted it
        time.sleep(0.02)


def _connect(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit() and host:
        try:
            socket.create_connection((host, int(port)), timeout=PROBE_S).close()
        except OSError as error:
            raise ConnectionError(f"{host}:{port} does not answer ({error.strerror or error})") from None
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)


def _classify(error: Exception) -> tuple[str, str]:
    if isinstance(error, RayTaskError):
        return ERROR, _line(error.cause if isinstance(error.cause, Exception) else error)
    if isinstance(error, ActorUnavailableError):
        return SILENT, _line(error)
    if isinstance(error, RayActorError):
        return (ERROR if error.actor_init_failed else GONE), _words(error)
    if isinstance(error, ValueError):
        return GONE, "Ray knows nothing of it any more"
    return SILENT, _line(error)


def _words(error: RayActorError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if error.actor_init_failed:
        return lines[-1]
    told = [line for line in lines[1:] if not line.split(" ")[0].endswith(":")]
    return " ".join(told)[:300] or lines[0]


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:400] or type(error).__name__


def main() -> None:
    """Run the bridge: the number of its end of the pipe, and the address of the cluster, are its arguments."""
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    Bridge(Connection(descriptor)).run(sys.argv[2])
    os._exit(0)
