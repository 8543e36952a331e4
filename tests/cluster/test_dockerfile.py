"""The image as its Dockerfile describes it: what goes in, what stays out, who it runs as."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.support.docker_context import DOCKERFILE, ROOT, is_ignored, stages

BUILDER, FINAL = stages(DOCKERFILE.read_text(encoding="utf-8"))
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8")
COMPILERS = ("gcc", "g++", "cpp", "clang", "llvm", "make", "cmake", "build-essential", "python3-dev", "rustc", "cargo")
FILES = sorted(path for path in (ROOT / "docker").rglob("*") if path.is_file() and path.parent.name != "secrets")


def test_the_base_is_debian_of_one_day() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert re.search(r"^ARG BASE=debian:bookworm-\d{8}-slim$", text, flags=re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE) == ["${BASE}", "${BASE}"]


@pytest.mark.parametrize("source", [*BUILDER.copied(), *FINAL.copied()])
def test_what_is_copied_is_there_and_reaches_the_builder(source: str) -> None:
    path = ROOT / source
    assert path.exists()
    inside = [file for file in path.rglob("*.*") if "__pycache__" not in file.parts] if path.is_dir() else [path]
    assert inside
    assert not any(is_ignored(file.relative_to(ROOT).as_posix(), IGNORED) for file in inside)


@pytest.mark.parametrize(
    "path",
    [
        "runs/campaign.db",
        "runs/quickstart/trials/0000_x/checkpoints/agent_1.pt",
        ".venv/bin/python",
        ".git/config",
        "tests/conftest.py",
        "docker/secrets/campaign_token",
        "docs/cluster.md",
        "vbot_campaign/__pycache__/paths.cpython-311.pyc",
        "vbot_campaign/study/__pycache__/study.cpython-311.pyc",
        "notes.txt",
    ],
)
def test_the_builder_gets_nothing_else(path: str) -> None:
    assert is_ignored(path, IGNORED)


def test_no_stage_installs_a_compiler_and_the_last_one_installs_no_python_package() -> None:
    for package in BUILDER.installed() | FINAL.installed():
        assert package not in COMPILERS
    assert "python3" in FINAL.installed()
    assert not any("pip" in step for step in FINAL.texts("RUN"))
    assert [text for text in FINAL.texts("COPY") if text.startswith("--from")] == [
        "--from=builder /opt/vbot-campaign /opt/vbot-campaign"
    ]
    for source in FINAL.copied():
        assert source in ("docker/entrypoint.sh", "docker/healthcheck.py", "studies")


def test_it_runs_as_nobody_special_and_stops_by_sigterm() -> None:
    (user,) = FINAL.texts("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert FINAL.texts("STOPSIGNAL") == ["SIGTERM"]
    names = [name for name, _ in FINAL.instructions]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name == "RUN")
    assert json.loads(FINAL.texts("ENTRYPOINT")[0]) == ["tini", "--", "entrypoint.sh"]
    assert json.loads(FINAL.texts("CMD")[0]) == ["serve"]
    assert "tini" in FINAL.installed()
    assert "healthcheck.py" in FINAL.texts("HEALTHCHECK")[0]


def test_everything_is_installed_by_the_pins() -> None:
    installs = [step for step in BUILDER.texts("RUN") if "pip install" in step]
    assert len(installs) == 3
    torch, packages, program = installs
    assert "grep '^torch==' constraints.txt" in torch
    assert "pip install -c constraints.txt -r requirements.txt" in packages
    assert "pip install --no-deps ." in program


def test_the_two_variants_choose_where_torch_comes_from() -> None:
    step = next(step for step in BUILDER.texts("RUN") if "VARIANT" in step)
    said = {}
    for variant, index in (("cpu", ""), ("cuda", ""), ("cpu", "https://mirror.example/simple"), ("tpu", "")):
        # The step as it stands, with a pip that says what it was asked for.
        script = f'pip() {{ echo "$@"; }}\n{step}'
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "VARIANT": variant, "TORCH_INDEX": index},
            capture_output=True,
            text=True,
        )
        said[variant, index] = (done.returncode, done.stdout.split(), done.stderr)
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    asked = ["install", "--no-deps"]
    assert said["cpu", ""] == (0, [*asked, "--index-url", "https://download.pytorch.org/whl/cpu", torch], "")
    assert said["cuda", ""] == (0, [*asked, torch], "")
    assert said["cpu", "https://mirror.example/simple"][1][3] == "https://mirror.example/simple"
    code, _, complaint = said["tpu", ""]
    assert (code, complaint) == (2, "VARIANT=tpu: expected cpu or cuda\n")


def requirements(extras: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "docker" / "requirements.py"
    return subprocess.run([sys.executable, script, extras], cwd=ROOT, capture_output=True, text=True)


def test_extras_add_their_packages_and_an_unknown_one_is_refused() -> None:
    plain, more = requirements("").stdout.splitlines(), requirements("postgres,serve").stdout.splitlines()
    assert any(line.startswith("torch") for line in plain)
    assert {line.split(">")[0] for line in set(more) - set(plain)} == {"psycopg[binary]", "prometheus-client"}
    refused = requirements("postgres,sevre")
    assert refused.returncode == 2
    assert "EXTRAS: no extra 'sevre' in pyproject.toml. Valid: " in refused.stderr


def test_scripts_can_be_run() -> None:
    for name in ("entrypoint.sh", "slurm/campaign.sbatch"):
        assert os.access(ROOT / "docker" / name, os.X_OK), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT / "docker").as_posix())
def test_no_file_names_a_host_but_public_ones(path: object) -> None:
    text = path.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    hosts = set(re.findall(r"(?:https?|ftp|file)://([^/\s\"':]*)", text))
    assert hosts <= {"download.pytorch.org", "127.0.0.1"}
