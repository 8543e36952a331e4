"""The service's pages over real HTTP: health, metrics, studies and the queue, and who may read them."""

from __future__ import annotations

import contextlib
import http.client
import json
import sqlite3
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.served import Reply
from tests.support.stored_study import store_study
from vbot_campaign.errors import CampaignError, FolderBusyError
from vbot_campaign.exporters.mirrors import export_all
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.service import web
from vbot_campaign.service.lock import alone, is_served
from vbot_campaign.service.pages import ServicePages
from vbot_campaign.service.readings import Readings
from vbot_campaign.service.service import Pulse
from vbot_campaign.service.web import Settings, answering
from vbot_campaign.study.study import close_readers
from vbot_campaign.study.submissions import QueueState, opened
from vbot_campaign.watch.address import Address
from vbot_campaign.watch.dashboard import DEFAULT_PORT as DASHBOARD_PORT


@dataclass
class Client:
    """Asks the pages of a service whose main loop the test plays."""

    address: Address
    now: list[float]
    pulse: Pulse

    def ask(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """Send one request."""
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=240)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())

    def json(self, path: str) -> Any:
        """Return the value of a page that answers well."""
        reply = self.ask(path)
        assert reply.status == 200, reply.body
        assert reply.headers["Content-Type"] == "application/json"
        return json.loads(reply.body)

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Return all samples by name and the values of their labels."""
        reply = self.ask("/metrics")
        assert reply.status == 200, reply.body
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(reply.body.decode())
        return {
            (sample.name.removeprefix("vbot_campaign_"), *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CampaignPaths]:
    """A finished study with its mirrors, and a queue; the tests only look at them."""
    paths = CampaignPaths(tmp_path_factory.mktemp("pages") / "runs")
    store_study(paths)
    export_all(paths, "walk")
    with opened(paths) as queue:
        queue.add("soon", "study", {}, priority=3)
        queue.add("later", "plan", {}, priority=0)
        queue.end(queue.add("over", "study", {}, priority=0), QueueState.FAILED, "two bugs")
        queue.claim(queue.add("runs", "study", {}, priority=0), ["gpu:a"], again=True)
    yield paths
    close_readers()


@contextlib.contextmanager
def serving(paths: CampaignPaths, **settings: Any) -> Iterator[Client]:
    now, pulse = [1000.0], Pulse(started=900.0, round=999.0)
    with opened(paths) as queue, contextlib.closing(Readings(paths, queue)) as readings:
        pages = ServicePages(paths, readings, pulse, clock=lambda: now[0])
        with answering(Settings(**{"port": 0, **settings}), pages) as address:
            yield Client(address, now, pulse)


# --- what is there --------------------------------------------------------------------------------------------------


def test_health_tells_state_and_age(paths: CampaignPaths) -> None:
    with serving(paths) as client:
        assert client.json("/healthz") == {"state": "running", "uptime_s": 100.0, "last_round_s": 1.0}
        client.pulse.is_draining = True
        assert client.json("/healthz")["state"] == "draining"
        client.now[0] = 1100.0
        stalled = client.ask("/healthz")
        assert stalled.status == 503
        assert "has not come round for 101 s" in json.loads(stalled.body)["reason"]


def test_health_is_bad_when_the_database_cannot_be_read(tmp_path: Path) -> None:
    paths = CampaignPaths(tmp_path / "runs")
    with serving(paths) as client:
        assert client.ask("/healthz").status == 200
        with contextlib.closing(sqlite3.connect(paths.database)) as connection:
            connection.execute("DROP TABLE campaign_queue")
        bad = client.ask("/healthz")
        assert bad.status == 503
        assert "campaign.db" in json.loads(bad.body)["reason"]
        assert json.loads(bad.body)["state"] == "no database"
        assert client.ask("/metrics").status == 503


def test_studies_are_as_status_shows_them(paths: CampaignPaths) -> None:
    from vbot_campaign.study.reading import read_snapshot
    from vbot_campaign.watch.status_json import status_json

    with serving(paths) as client:
        (one,) = client.json("/api/studies")["studies"]
        assert (one["study"], one["state"], one["trials"], one["best"]["score"]) == ("walk", "finished", 3, 0.6)
        told, expected = client.json("/api/studies/walk"), status_json(paths, read_snapshot(paths, "walk"))
        assert {**told, "time": ""} == {**expected, "time": ""}
        unknown = client.ask("/api/studies/wolk")
        assert unknown.status == 404
        assert "Did you mean 'walk'" in json.loads(unknown.body)["reason"]
        for path in ("/api/studies/..%2f..%2fetc", "/api/studies/a/b", "/nothing", "/api/studies/%00"):
            assert client.ask(path).status == 404


def test_the_queue_is_in_its_order(paths: CampaignPaths) -> None:
    with serving(paths) as client:
        lines = client.json("/api/queue")["queue"]
        assert [(line["position"], line["name"], line["state"]) for line in lines] == [
            (None, "runs", "running"),
            (1, "soon", "queued"),
            (2, "later", "queued"),
            (None, "over", "failed"),
        ]
        assert lines[-1]["reason"] == "two bugs"
        assert client.json("/")["pages"][1] == "/healthz"


def test_metrics_are_what_a_prometheus_server_reads(paths: CampaignPaths) -> None:
    with serving(paths) as client:
        found = client.metrics()
        assert {key[1]: value for key, value in found.items() if key[0] == "trials"} == {
            "waiting": 0,
            "running": 0,
            "complete": 1,
            "pruned": 1,
            "failed": 1,
        }
        assert found["best_score", "walk"] == 0.6
        assert found["env_steps_total", "walk"] > 0
        assert found["env_steps_per_second", "walk"] == 0, "none of its trials runs"
        assert 0 <= found["mirror_age_seconds", "walk"] < 3600
        states = {key[1]: value for key, value in found.items() if key[0] == "queue_length"}
        assert states == {"queued": 2, "running": 1, "finished": 0, "failed": 1, "cancelled": 0}
        assert found["supervisors_running",] == 0
        assert found["restarts_total",] == 1
        assert found["uptime_seconds",] == 100
        assert client.ask("/metrics", "HEAD").body == b""


def test_gpus_are_measured_where_there_are_some(paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    from vbot_campaign.service import pages
    from vbot_campaign.supervisor.gpus import GpuReading

    reading = GpuReading(1, "GPU-abc", "H", 2000.0, 8000.0, 0.5, 60.0, None)
    monkeypatch.setattr(pages, "read_gpus", lambda: [reading])
    with serving(paths) as client:
        found = client.metrics()
        assert found["gpu_memory_used_bytes", "1", "GPU-abc"] == 2e9
        assert found["gpu_memory_total_bytes", "1", "GPU-abc"] == 8e9


def test_without_prometheus_client_the_rest_works(paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with serving(paths) as client:
        missing = client.ask("/metrics")
        assert missing.status == 501
        assert b"pip install 'vbot-campaign[serve]'" in missing.body
        assert client.ask("/healthz").status == 200


# --- who may read it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/api/queue", "/api/studies", "/api/studies/walk"])
def test_nothing_can_be_changed_and_foreign_names_are_refused(paths: CampaignPaths, path: str) -> None:
    with serving(paths) as client:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            refused = client.ask(path, method)
            assert refused.status == 405
            assert "submit and cancel" in json.loads(refused.body)["reason"]
        assert client.ask(path, Host="elsewhere.example").status == 403
        assert client.ask(path, Host=f"localhost:{client.address.port}").status == 200


def test_with_a_token_nothing_is_shown_without_it(paths: CampaignPaths) -> None:
    with serving(paths, token="abc") as client:
        assert client.ask("/healthz").status == 401
        assert client.ask("/metrics", Authorization="Bearer abd").status == 401
        assert client.ask("/metrics?token=wrong").status == 401
        assert client.ask("/metrics", Authorization="Bearer abc").status == 200


def test_a_reachable_host_needs_a_token_and_a_taken_port_is_said(paths: CampaignPaths) -> None:
    def serve(**settings: Any) -> None:
        web.serve(paths, Settings(**settings), ready=lambda address: pytest.fail(f"serves {address}"), say=print)

    with pytest.raises(CampaignError, match=r"--host 0\.0\.0\.0.*the service has no login.*--token SECRET"):
        serve(host="0.0.0.0")  # noqa: S104
    with pytest.raises(CampaignError, match="--token: is empty"):
        serve(token=" ")
    with serving(paths) as client, pytest.raises(CampaignError, match=f"port {client.address.port} .*is taken"):
        serve(port=client.address.port)
    with pytest.raises(CampaignError, match=r"cannot listen on 192\.0\.2\.7:8090"):
        serve(host="192.0.2.7", token="abc")
    assert web.DEFAULT_PORT != DASHBOARD_PORT


def test_one_service_for_a_runs_folder(paths: CampaignPaths) -> None:
    assert not is_served(paths)
    with alone(paths):
        assert is_served(paths)
        with pytest.raises(FolderBusyError, match=r"pid \d+ on \S+ since .*serves the queue"), alone(paths):
            pass
    with alone(paths):
        pass


# --- load -----------------------------------------------------------------------------------------------------------


def test_many_monitors_at_once_are_all_answered(paths: CampaignPaths) -> None:
    wanted = ("/healthz", "/metrics", "/api/queue", "/api/studies", "/api/studies/walk")
    statuses: list[int] = []
    with serving(paths) as client:

        def monitor() -> None:
            statuses.extend(client.ask(wanted[number % len(wanted)]).status for number in range(50))

        threads = [threading.Thread(target=monitor) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
        assert len(statuses) == 200
        assert set(statuses) == {200}
        pages = [thread for thread in threading.enumerate() if thread.name.startswith("readings")]
        assert len(pages) == 1, "however many ask, one thread reads"
