"""The compose files: valid by the specification's schema, and what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import typer
import yaml

from tests.support.docker_context import ROOT
from vbot_campaign.cli import app

FOLDER = ROOT / "docker"
SERVICES: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
CUDA: dict[str, Any] = yaml.safe_load((FOLDER / "compose.cuda.yaml").read_text(encoding="utf-8"))["services"]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_the_specification_allows_it(name: str) -> None:
    # The schema of the compose specification comes with check-jsonschema.
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FOLDER / name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_mistake_would_be_found(tmp_path: Any) -> None:
    wrong = (FOLDER / "compose.yaml").read_text(encoding="utf-8").replace("stop_grace_period:", "stop_grace_perod:")
    (tmp_path / "compose.yaml").write_text(wrong, encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, tmp_path / "compose.yaml"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "stop_grace_perod" in done.stdout


def test_all_parts_are_there_and_only_study_waits_to_be_called() -> None:
    assert set(SERVICES) == {"postgres", "supervisor", "dashboard", "tensorboard", "study"}
    assert [name for name, service in SERVICES.items() if service.get("profiles")] == ["study"]
    assert SERVICES["study"]["restart"] == "no"
    assert all(service["restart"] == "unless-stopped" for name, service in SERVICES.items() if name != "study")


@pytest.mark.parametrize("name", ["supervisor", "dashboard", "study"])
def test_the_commands_and_their_options_exist(name: str) -> None:
    command, *arguments = SERVICES[name]["command"]
    known = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    options = {text for parameter in known.params for text in parameter.opts}
    assert {word for word in arguments if word.startswith("-")} <= options


def test_what_trains_has_time_for_its_checkpoints() -> None:
    for name in ("supervisor", "study"):
        minutes = re.fullmatch(r"(\d+)m", SERVICES[name]["stop_grace_period"])
        assert minutes
        assert int(minutes[1]) * 60 > 120, "a worker has two minutes for its checkpoint"
    assert SERVICES["supervisor"]["hostname"], "a service knows its own claims again by its host's name"


def test_ports_are_open_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert sorted(ports) == ["127.0.0.1:6006:6006", "127.0.0.1:8080:8080", "127.0.0.1:8090:8090"]


def test_no_secret_stands_in_the_file() -> None:
    declared = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["secrets"]
    assert declared == {name: {"file": f"secrets/{name}"} for name in ("postgres_password", "campaign_token")}
    for name, service in SERVICES.items():
        environ = service.get("environment", {})
        for variable, value in environ.items():
            assert not re.search(r"PASSWORD$|TOKEN$", variable), f"{name}: {variable}"
            if variable.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]
        assert "@" not in environ.get("VBOT_CAMPAIGN_STORAGE", "").partition("campaign@")[0]
        assert ":" not in environ.get("VBOT_CAMPAIGN_STORAGE", "").partition("://")[2].partition("@")[0]
    for name in ("supervisor", "dashboard"):
        assert "campaign_token" in SERVICES[name]["secrets"], "what other containers can reach asks for the token"
    assert "/docker/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_whoever_runs_is_looked_after() -> None:
    for name, service in SERVICES.items():
        if name == "study":
            assert service["healthcheck"] == {"disable": True}
        elif name != "supervisor":  # whose check is that of the image
            assert service["healthcheck"]["test"]
    assert SERVICES["supervisor"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert SERVICES["dashboard"]["depends_on"]["supervisor"]["condition"] == "service_healthy"


def test_images_have_a_version_and_our_containers_no_privileges() -> None:
    assert re.fullmatch(r"postgres:\d+\.\d+-bookworm", SERVICES["postgres"]["image"])
    for name, service in SERVICES.items():
        if name != "postgres":
            assert service["build"] == {"context": "..", "dockerfile": "docker/Dockerfile", "args": {"VARIANT": "cpu"}}
            assert service["cap_drop"] == ["ALL"]
            assert "no-new-privileges:true" in service["security_opt"]
            assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_gpus_go_to_those_that_train() -> None:
    assert set(CUDA) == set(SERVICES) - {"postgres"}
    assert {name for name, service in CUDA.items() if "deploy" in service} == {"supervisor", "study"}
    assert all(service["build"]["args"] == {"VARIANT": "cuda"} for service in CUDA.values())
