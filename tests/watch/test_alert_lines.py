"""Alerts as a person reads them: in the list, in the lines of a running study, and as JSON."""

from __future__ import annotations

import dataclasses
import io
import json
from datetime import timedelta

import pytest
from rich.console import Console

from tests.support.faults import command, refused
from tests.support.mailbox import mailbox
from tests.support.snapshots import START, make_snapshot
from tests.support.stored_study import store_study
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths
from vbot_campaign.study.snapshot import AlertView
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.supervisor.notify import VARIABLE
from vbot_campaign.watch.alert_lines import alert_line, new_alerts, render_alerts
from vbot_campaign.watch.progress_lines import ProgressLines

DISK = AlertView("2026-01-31T12:00:00.123Z", "warning", "low_disk", "0.50 GB are free", "free some space")
FALL = AlertView("2026-01-31T12:30:00.000Z", "warning", "collapse", "the score fell from 0.9 to 0.1", "look", 7)


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    paths = CampaignPaths(tmp_path)
    store_study(paths)
    return paths


def add(paths, *alerts):
    storage = open_storage(paths)
    for alert in alerts:
        CampaignStudy.open(storage, "walk").add_alert(alert)
    storage.close()


def test_an_alert_in_a_line_names_its_trial():
    assert alert_line(FALL) == "warning: collapse: trial 7: the score fell from 0.9 to 0.1"


def test_the_list_says_what_to_do_and_fits_the_screen():
    long = dataclasses.replace(DISK, message="the runs folder " + "is nearly full " * 12)
    text = render_alerts("walk", [long, FALL], width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.endswith("2026-01-31 12:30:00Z  warning  collapse  trial 7\n  the score fell from 0.9 to 0.1\n  → look")
    assert render_alerts("walk", []) == "study walk: no alerts."


def test_only_what_is_new_is_printed():
    earlier = make_snapshot(alerts=(DISK,))
    assert new_alerts(earlier, make_snapshot(alerts=(DISK, FALL))) == [FALL]
    supervisor = {"host": "h", "pid": 1, "started": START + timedelta(minutes=15)}
    assert new_alerts(None, make_snapshot(alerts=(DISK, FALL), supervisor=supervisor)) == [FALL]
    assert new_alerts(None, make_snapshot(alerts=(DISK,), supervisor=None)) == []


def test_a_running_study_prints_its_alerts(tmp_path):
    out = io.StringIO()
    with ProgressLines(CampaignPaths(tmp_path), Console(file=out, width=80)) as lines:
        lines.update(make_snapshot(alerts=(DISK,)))
        lines.update(make_snapshot(alerts=(DISK, FALL)))
    printed = [line for line in out.getvalue().splitlines() if "collapse" in line or "low_disk" in line]
    assert [line.partition("Z ")[2] for line in printed] == [f"{alert_line(FALL)} (look)"]


def test_the_command_lists_and_prints_json(paths, capfd):
    assert command(capfd, "alerts", "walk").output == "study walk: no alerts.\n"
    add(paths, DISK, FALL)
    listed = command(capfd, "alerts")
    assert (listed.code, listed.output.count("→")) == (0, 2)
    assert json.loads(command(capfd, "alerts", "walk", "--json").output) == [vars(DISK), vars(FALL)]


def test_the_command_refuses_in_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "empty"))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert "name a study. There are: none yet." in refused(capfd, "alerts")
    assert "VBOT_CAMPAIGN_NOTIFY is not set" in refused(capfd, "alerts", "--test")


def test_a_test_message_is_sent(monkeypatch, capfd):
    with mailbox() as box:
        monkeypatch.setenv(VARIABLE, box.url)
        assert command(capfd, "alerts", "--test").output == "sent a test message to 1 address\n"
    assert box.titles == ["test"]
