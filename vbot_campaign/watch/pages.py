"""What the dashboard's server has beside optuna-dashboard: reports, and the way to TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from vbot_campaign.errors import SpecError
from vbot_campaign.paths import CampaignPaths

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

REPORTS = "/reports/"
TENSORBOARD = "/tensorboard"

# A report is made of what workers and study files said. In a sandbox its scripts are of no origin, so they can ask this
# server for nothing, and it loads nothing from elsewhere.
_REPORT_POLICY = (
    "sandbox allow-scripts allow-popups allow-modals allow-downloads; default-src 'none'; img-src data: blob:; "
    "font-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'"
)


class Pages:
    """Answers for its own addresses and passes everything else on.

    ``/reports/NAME`` is the report of a study, ``/tensorboard`` leads to TensorBoard where it is served too.

    Args:
        application: Who answers everything else.
        paths: The runs folder.
        tensorboard: Address of TensorBoard; None where it is not served along with this.
    """

    def __init__(self, application: WSGIApplication, paths: CampaignPaths, tensorboard: str | None = None) -> None:
        self._application = application
        self._paths = paths
        self._tensorboard = tensorboard

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        if path.startswith(REPORTS):
            return self._report(unquote(path.removeprefix(REPORTS).rstrip("/")), start_response)
        if path.rstrip("/") == TENSORBOARD:
            return self._to_tensorboard(start_response)
        return self._application(environ, start_response)

    def _report(self, name: str, start_response: StartResponse) -> Iterable[bytes]:
        try:
            content = self._paths.study(name).report.read_bytes()
        except (SpecError, OSError):
            return _missing(start_response, "No report of this study yet", "vbot-campaign report NAME")
        headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(content)))]
        headers += [("Content-Security-Policy", _REPORT_POLICY), ("Cache-Control", "no-cache")]
        start_response("200 OK", headers)
        return [content]

    def _to_tensorboard(self, start_response: StartResponse) -> Iterable[bytes]:
        if self._tensorboard is None:
            return _missing(start_response, "TensorBoard is not served along with this dashboard", "vbot-campaign up")
        start_response("303 See Other", [("Location", self._tensorboard), ("Content-Length", "0")])
        return [b""]


def _missing(start_response: StartResponse, what: str, command: str) -> list[bytes]:
    body = f"<!doctype html><title>{what}</title><p>{what}. Run <code>{command}</code>.".encode()
    start_response("404 Not Found", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
