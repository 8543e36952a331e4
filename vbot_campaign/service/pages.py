"""The service's pages: health, metrics, studies and the queue. Nothing can be changed here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from vbot_campaign import __version__
from vbot_campaign.errors import CampaignError, StudyNotFoundError
from vbot_campaign.exporters import plain_yaml
from vbot_campaign.paths import CampaignPaths, name_problem
from vbot_campaign.service import metrics
from vbot_campaign.service.readings import Readings, queue_json
from vbot_campaign.service.service import Pulse
from vbot_campaign.study.snapshot import StudySnapshot
from vbot_campaign.supervisor.gpus import read_gpus

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

STALLED_S = 60.0
"""Time without a round of the main loop after which the service is not well."""
_JSON = "application/json"


class ServicePages:
    """Answers the requests that the guard lets through.

    Args:
        paths: The runs folder.
        readings: Reads the database.
        pulse: How the main loop does.
        clock: Monotonic seconds.
    """

    def __init__(
        self, paths: CampaignPaths, readings: Readings, pulse: Pulse, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._paths = paths
        self._readings = readings
        self._pulse = pulse
        self._clock = clock
        self._pages: dict[str, Callable[[], tuple[str, str, bytes]]] = {
            "/": self._index,
            "/healthz": self._health,
            "/metrics": self._metrics,
            "/api/queue": lambda: _ok(queue_json(self._readings.submissions())),
            "/api/studies": lambda: _ok({"studies": [_summary(one) for one in self._readings.snapshots()]}),
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        try:
            status, kind, body = self._answer(environ.get("PATH_INFO", ""))
        except StudyNotFoundError as error:
            status, kind, body = _json("404 Not Found", {"reason": str(error)})
        except CampaignError as error:
            status, kind, body = _json("503 Service Unavailable", {"reason": str(error)})
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, path: str) -> tuple[str, str, bytes]:
        page = self._pages.get(path.rstrip("/") or "/")
        if page is not None:
            return page()
        folder, _, name = path.rpartition("/")
        if folder == "/api/studies" and name_problem(name) is None:
            return _ok(self._readings.status(name))
        return _json(
            "404 Not Found", {"reason": f"no such page; there are {', '.join(self._pages)}, /api/studies/NAME"}
        )

    def _index(self) -> tuple[str, str, bytes]:
        return _ok({"program": f"vbot-campaign {__version__}", "pages": [*self._pages, "/api/studies/NAME"]})

    def _health(self) -> tuple[str, str, bytes]:
        now = self._clock()
        silent_s = now - self._pulse.round
        facts = {
            "state": "draining" if self._pulse.is_draining else "running",
            "uptime_s": round(now - self._pulse.started, 1),
            "last_round_s": round(silent_s, 1),
        }
        if silent_s > STALLED_S:
            reason = f"the main loop has not come round for {silent_s:.0f} s"
            return _json("503 Service Unavailable", {**facts, "state": "stalled", "reason": reason})
        try:
            self._readings.submissions()
        except CampaignError as error:
            return _json("503 Service Unavailable", {**facts, "state": "no database", "reason": str(error)})
        return _ok(facts)

    def _metrics(self) -> tuple[str, str, bytes]:
        studies = self._readings.snapshots()
        facts = metrics.Facts(
            studies=studies,
            submissions=self._readings.submissions(),
            gpus=read_gpus(),
            mirror_age_s=metrics.mirror_ages(self._paths, [one.spec.study for one in studies]),
            uptime_s=self._clock() - self._pulse.started,
            is_draining=self._pulse.is_draining,
        )
        try:
            body, kind = metrics.render(facts)
        except ImportError:
            return "501 Not Implemented", "text/plain; charset=utf-8", f"{metrics.INSTALL}\n".encode()
        return "200 OK", kind, body


def _summary(snapshot: StudySnapshot) -> dict[str, Any]:
    best = snapshot.best
    return {
        "study": snapshot.spec.study,
        "state": snapshot.state,
        "reason": snapshot.reason,
        "trials": len(snapshot.trials),
        "best": best and {"trial": best.number, "score": best.score},
        "created": snapshot.created,
    }


def _ok(value: Any) -> tuple[str, str, bytes]:
    return _json("200 OK", value)


def _json(status: str, value: Any) -> tuple[str, str, bytes]:
    return status, _JSON, f"{json.dumps(plain_yaml.plain(value), indent=2)}\n".encode()
