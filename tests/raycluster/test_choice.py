"""Where trials run: by option, by settings file, and what is said when that cannot be."""

from __future__ import annotations

import socket
import sys

import pytest

from tests.support.campaign import Campaign
from tests.support.faults import refused
from vbot_campaign.errors import SpecError
from vbot_campaign.paths import RUNS_VARIABLE
from vbot_campaign.spec.settings import SETTINGS_VARIABLE, launcher_choice, storage_address


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Write the settings file."""

    def write(text):
        (file := tmp_path / "settings.yaml").write_text(text)
        monkeypatch.setenv(SETTINGS_VARIABLE, str(file))
        return file

    return write


def test_the_option_goes_before_the_settings_file(settings):
    assert launcher_choice() == ("local", "auto")
    settings("launcher: ray\nray_address: box:6379\n")
    assert launcher_choice() == ("ray", "box:6379")
    assert launcher_choice(address="ray://other:10001") == ("ray", "ray://other:10001")
    assert launcher_choice("local") == ("local", "box:6379")
    assert storage_address() is None


def test_what_cannot_be_chosen_is_named(settings):
    with pytest.raises(SpecError, match=r"--launcher: 'rey' is unknown\. Did you mean 'ray'\? Valid: local, ray"):
        launcher_choice("rey")
    with pytest.raises(SpecError, match=r"--address box:6379: .* say --launcher ray as well"):
        launcher_choice(address="box:6379")
    file = settings("launcher: slurm\n")
    with pytest.raises(SpecError, match=f"{file}: launcher: 'slurm' is unknown"):
        launcher_choice()
    settings("launcher: ray\nray_address: 6379\n")
    with pytest.raises(SpecError, match="ray_address: is not a text; write the address of a Ray cluster"):
        launcher_choice()


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "runs"))
    return Campaign(tmp_path).write()


def test_without_ray_it_is_said_how_to_get_it_and_nothing_is_made(study, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "ray", None)
    error = refused(capfd, "run", study, "--no-audit", "--launcher", "ray")
    assert "pip install 'vbot-campaign[ray]'" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.ray
def test_where_no_cluster_answers_nothing_is_made(study, tmp_path, capfd):
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        error = refused(capfd, "run", study, "--no-audit", "--launcher", "ray", "--address", address)
    assert f"no Ray cluster at address '{address}': {address} does not answer (Connection refused)" in error
    assert not (tmp_path / "runs").exists()
