"""The dashboard, started by its command and asked over HTTP: nobody reads or changes more than was allowed."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from tests.support.faults import refused
from tests.support.served import dashboard
from tests.support.stored_study import store_study
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.study import close_readers, study_names


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("dashboard") / "runs"
    store_study(CampaignPaths(root))
    yield root
    close_readers()


@pytest.fixture(scope="module")
def plain(runs):
    with dashboard(runs) as served:
        yield served


@pytest.fixture(scope="module")
def exposed(runs):
    with dashboard(runs, "--host", "0.0.0.0", VBOT_CAMPAIGN_TOKEN="s3cret") as served:  # noqa: S104
        yield served


def names(runs: Path) -> list[str]:
    return study_names(CampaignPaths(runs))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_is_read_only(plain, runs, method):
    for path in ("/api/studies/1", "/api/studies", "/api/studies/1/rename", "/api/trials/1/user-attrs"):
        body = json.dumps({"study_name": "mine", "directions": ["maximize"], "user_attrs": {"reason": "x"}})
        reply = plain.ask(method, path, body, **{"Content-Type": "application/json"})
        assert reply.status == 405
        assert "--allow-edit" in json.loads(reply.body)["reason"]
    assert names(runs) == ["walk"]


def test_a_method_in_disguise_changes_nothing(plain, runs):
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        plain.ask("GET", "/api/studies/1", **{header: "DELETE"})
    plain.ask("GET", "/api/studies/1?_method=DELETE")
    assert names(runs) == ["walk"]


def test_it_listens_on_this_machine_only(plain):
    connections = psutil.Process(plain.pid).net_connections()
    assert {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_a_page_elsewhere_cannot_reach_it_through_a_name_of_its_own(plain):
    assert plain.ask("GET", "/api/studies", Host="attacker.example").status == 403
    assert plain.ask("GET", "/api/studies", Host=f"localhost:{plain.port}").status == 200


def test_another_host_demands_a_token(runs, capfd, monkeypatch):
    monkeypatch.delenv("VBOT_CAMPAIGN_TOKEN", raising=False)
    error = refused(capfd, "--runs", runs, "dashboard", "--host", "0.0.0.0")  # noqa: S104
    assert "--token SECRET" in error


def test_a_wrong_token_is_refused(exposed):
    assert exposed.ask("GET", "/").status == 401
    assert exposed.ask("GET", "/dashboard").status == 401
    assert exposed.ask("GET", "/api/studies?token=s3cre").status == 401
    assert exposed.ask("GET", "/api/studies", Authorization="Bearer S3CRET").status == 401
    assert exposed.ask("GET", "/api/studies", Cookie="vbot_campaign_token=wrong").status == 401
    assert exposed.ask("DELETE", "/api/studies/1").status == 401


def test_the_token_leaves_the_address_at_its_first_use(exposed):
    first = exposed.ask("GET", "/dashboard?token=s3cret")
    assert first.status == 303
    assert first.headers["Location"] == "/dashboard"
    assert first.headers["Cache-Control"] == "no-store"
    cookie = first.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    reply = exposed.ask("GET", "/api/studies", Cookie=cookie.partition(";")[0])
    assert reply.status == 200
    assert "s3cret" not in reply.body.decode()


def test_a_token_does_not_allow_to_edit(exposed, runs):
    assert exposed.ask("DELETE", "/api/studies/1", Authorization="Bearer s3cret").status == 405
    assert names(runs) == ["walk"]


def test_the_token_can_stay_out_of_the_list_of_processes(exposed):
    assert "s3cret" not in " ".join(psutil.Process(exposed.pid).cmdline())
    assert "s3cret" in exposed.printed, "the one who started it is told the address"


def test_editing_is_possible_where_it_was_allowed(tmp_path):
    store_study(CampaignPaths(tmp_path))
    with dashboard(tmp_path, "--allow-edit") as served:
        assert served.ask("DELETE", "/api/studies/1", Origin="http://attacker.example").status == 403
        assert names(tmp_path) == ["walk"]
        assert served.ask("DELETE", "/api/studies/1").status == 204
    close_readers()
    assert names(tmp_path) == []
