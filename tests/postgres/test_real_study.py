"""The tiny study with real workers, through the command line: on a server it is the very study that it is in a file."""

from __future__ import annotations

import json

import pytest

from tests.support.campaign import Campaign, json_of
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.study import close_readers

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def test_the_same_suggestions_reports_scores_and_states(tmp_path, database_url):
    (tmp_path / "file").mkdir()
    (tmp_path / "server").mkdir()
    file, server = Campaign(tmp_path / "file"), Campaign(tmp_path / "server", database_url)
    for campaign in (file, server):
        campaign.call("run", "--no-audit", campaign.write(budget={"trials": 3}))
        assert campaign.call("verify", "tiny") == "tiny: database, mirrors and disk agree.\n"
    assert not server.runs.database.exists()
    assert [trial.state for trial in server.snapshot().trials] == [TrialState.COMPLETE] * 3
    for mine, theirs in zip(server.snapshot().trials, file.snapshot().trials, strict=True):
        for name in ("number", "state", "reason", "parameters", "reports", "score", "parts", "evaluation", "env_steps"):
            assert getattr(mine, name) == getattr(theirs, name), name
        assert [(c.env_steps, c.kind, c.score) for c in mine.checkpoints] == [
            (c.env_steps, c.kind, c.score) for c in theirs.checkpoints
        ]
    shown = [json_of(campaign.call("status", "tiny", "--json")) for campaign in (server, file)]
    assert shown[0]["best"]["score"] == shown[1]["best"]["score"]
    assert "ada@" not in json.dumps(shown[0])
    close_readers()
