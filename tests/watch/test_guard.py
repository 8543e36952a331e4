"""Over real HTTP: who may read the dashboard, and that nobody changes a study by accident."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.snapshots import make_spec
from vbot_campaign.errors import CampaignError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import CampaignStudy, open_storage, study_names
from vbot_campaign.study.study import close_readers
from vbot_campaign.watch.dashboard import Dashboard, open_dashboard, serve

SECRET = "kept & secret/ü"


@dataclass
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def reason(self) -> str:
        """Why it was refused."""
        return str(json.loads(self.body)["reason"])


class Client:
    """Asks one dashboard."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.host, self.port = dashboard.address.host, dashboard.address.port

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: str | None = None) -> Answer:
        """Send one request and return the answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=240)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[CampaignPaths]:
    paths = CampaignPaths(tmp_path / "runs")
    storage = open_storage(paths)
    CampaignStudy.create(storage, make_spec())
    storage.close()
    yield paths
    close_readers()


@contextlib.contextmanager
def serving(paths: CampaignPaths, **options: object) -> Iterator[Client]:
    dashboard = open_dashboard(paths, port=0, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=dashboard.serve_forever)
    thread.start()
    try:
        yield Client(dashboard)
    finally:
        dashboard.shutdown()
        thread.join(timeout=240)
        dashboard.close()


def test_reading_is_open_on_this_machine(paths: CampaignPaths) -> None:
    with serving(paths) as client:
        studies = client.ask("GET", "/api/studies")
        assert studies.status == 200
        assert [study["study_name"] for study in json.loads(studies.body)["study_summaries"]] == ["walk"]
        assert client.ask("GET", "/dashboard").status == 200
        assert client.ask("HEAD", "/api/studies").status == 200
        assert client.ask("GET", "/api/studies", {"Host": f"localhost:{client.port}"}).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/studies/1"),
        ("POST", "/api/studies"),
        ("POST", "/api/studies/1/rename"),
        ("PUT", "/api/studies/1/note"),
        ("PATCH", "/api/studies/1"),
        ("BREW", "/api/studies/1"),
        ("delete", "/api/studies/1"),
    ],
)
def test_changes_are_refused(paths: CampaignPaths, method: str, path: str) -> None:
    with serving(paths) as client:
        answer = client.ask(method, path, {"Content-Type": "application/json"}, json.dumps({"study_name": "other"}))
        assert answer.status == 405
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
        assert "--allow-edit" in answer.reason
    assert study_names(paths) == ["walk"]


def test_editing_must_be_allowed_and_then_works(paths: CampaignPaths) -> None:
    with serving(paths, allow_edit=True) as client:
        assert client.ask("DELETE", "/api/studies/1").status == 204
    assert study_names(paths) == []


def test_a_page_from_elsewhere_cannot_make_changes(paths: CampaignPaths) -> None:
    with serving(paths, allow_edit=True) as client:
        answer = client.ask("DELETE", "/api/studies/1", {"Origin": "http://elsewhere.example"})
        assert answer.status == 403
        own = client.ask("DELETE", "/api/studies/1", {"Origin": f"http://127.0.0.1:{client.port}"})
        assert own.status == 204


@pytest.mark.parametrize("host", ["elsewhere.example", "192.0.2.7:8080", "", "[", "127.0.0.1.elsewhere.example"])
def test_names_of_other_machines_are_refused(paths: CampaignPaths, host: str) -> None:
    with serving(paths) as client:
        assert client.ask("GET", "/api/studies", {"Host": host}).status == 403


def test_with_a_token_nothing_is_shown_without_it(paths: CampaignPaths) -> None:
    with serving(paths, token="abc") as client:
        for headers in (
            {},
            {"Authorization": "Bearer abd"},
            {"Cookie": "vbot_campaign_token=abcd"},
            {"Cookie": "\x7f="},
        ):
            answer = client.ask("GET", "/api/studies", headers)
            assert answer.status == 401
            assert "?token=TOKEN" in answer.reason
        assert client.ask("GET", "/api/studies?token=wrong").status == 401
        assert client.ask("DELETE", "/api/studies/1", {"Authorization": "Bearer abc"}).status == 405


def test_a_token_opens_by_header_and_by_cookie(paths: CampaignPaths) -> None:
    with serving(paths, token="abc") as client:
        assert client.ask("GET", "/api/studies", {"Authorization": "Bearer abc"}).status == 200
        assert client.ask("GET", "/api/studies", {"Authorization": "bearer abc"}).status == 200
        assert client.ask("GET", "/api/studies", {"Cookie": "other=1; vbot_campaign_token=abc"}).status == 200
        assert client.ask("GET", "/api/studies", {"Authorization": "Bearer abc", "Host": "box.example"}).status == 200


def test_a_token_in_the_address_becomes_a_cookie(paths: CampaignPaths) -> None:
    with serving(paths, token=SECRET) as client:
        answer = client.ask("GET", "/dashboard/studies/1?sort=2&token=kept+%26+secret%2F%C3%BC")
        assert answer.status == 303
        assert answer.headers["Location"] == "/dashboard/studies/1?sort=2"
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        again = client.ask("GET", "/api/studies", {"Cookie": cookie.partition(";")[0]})
        assert again.status == 200


def test_the_redirect_stays_on_this_server(paths: CampaignPaths) -> None:
    with serving(paths, token="abc") as client:
        answer = client.ask("GET", "//elsewhere.example/%0d%0aX-Evil:1?token=abc")
        assert answer.status == 303
        assert answer.headers["Location"].startswith("/elsewhere.example/")
        assert "X-Evil" not in answer.headers


def test_a_reachable_host_needs_a_token(paths: CampaignPaths) -> None:
    with pytest.raises(CampaignError, match=r"--host 0\.0\.0\.0.*--token SECRET.*ssh -L 8080"):
        open_dashboard(paths, host="0.0.0.0")  # noqa: S104
    with pytest.raises(CampaignError, match="empty"):
        open_dashboard(paths, host="0.0.0.0", token=" ")  # noqa: S104
    with serving(paths, host="0.0.0.0", token="abc") as client:  # noqa: S104
        assert client.ask("GET", "/api/studies").status == 401
        assert client.ask("GET", "/api/studies", {"Authorization": "Bearer abc"}).status == 200


def test_a_host_of_another_machine_is_one_clear_line(paths: CampaignPaths) -> None:
    with pytest.raises(CampaignError, match=r"cannot listen on 192\.0\.2\.7:8080"):
        open_dashboard(paths, host="192.0.2.7", token="abc")


def test_the_next_port_is_taken_where_one_is_in_use(paths: CampaignPaths) -> None:
    with serving(paths) as first:
        second = open_dashboard(paths, port=first.port)
        try:
            assert first.port < second.address.port < first.port + 20
            assert second.address.note == f"Port {first.port} is taken; using {second.address.port}."
            assert second.address.url == f"http://127.0.0.1:{second.address.port}/"
        finally:
            second.close()


def test_without_a_database_there_is_nothing_to_serve(tmp_path: Path) -> None:
    with pytest.raises(StudyNotFoundError, match="no database"):
        serve(CampaignPaths(tmp_path / "runs"), port=0, ready=lambda address: pytest.fail(f"serves {address}"))


def test_a_supervisor_can_write_while_the_dashboard_is_read(paths: CampaignPaths) -> None:
    with serving(paths) as client:
        storage = open_storage(paths)
        study = CampaignStudy.open(storage, "walk")
        trial = study.ask()
        assert trial is not None
        study.report(trial.number, 20_000, 0.25)
        trials = json.loads(client.ask("GET", "/api/studies/1?after=0").body)["trials"]
        assert [t["intermediate_values"] for t in trials] == [[{"step": 20_000, "value": 0.25}]]
        storage.close()
