"""The rules that hold the program together: who may import whom, what starts fast, what the documents promise."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter import cli as import_linter
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "vbot_campaign").rglob("*.py"))
# By folder and not by `git ls-files`, which an unpacked archive cannot be asked. Tools keep their files in folders
# that begin with a dot.
DOCUMENTS = [path for path in (ROOT / "README.md", *sorted(ROOT.glob("[!.]*/*.md"))) if path.exists()]
HEAVY = ("torch", "optuna", "mujoco", "sqlalchemy", "numpy", "tensorboard", "pydantic", "yaml", "psutil")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- imports --------------------------------------------------------------------------------------------------------


def test_layers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert (
        import_linter.lint_imports(config_filename="pyproject.toml", cache_dir=None)
        == import_linter.EXIT_STATUS_SUCCESS
    )


def python(code: str) -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_command_line_starts_without_the_heavy_parts() -> None:
    loaded = python(f"import sys, vbot_campaign.cli; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded == "[]"


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("vbot_campaign.supervisor", ("torch", "mujoco")),
        ("vbot_campaign.exporters.mirrors", ("torch", "mujoco")),
        ("vbot_campaign.watch.status", ("torch", "mujoco", "optuna", "sqlalchemy")),
        ("vbot_campaign.watch.live", ("torch", "mujoco", "optuna", "sqlalchemy")),
        ("vbot_campaign.worker.attempt", ("optuna", "sqlalchemy")),
    ],
)
def test_each_process_loads_its_own_half(module: str, never: tuple[str, ...]) -> None:
    # What import-linter cannot see: a library that imports another one.
    assert python(f"import sys, {module}; print([name for name in {never} if name in sys.modules])") == "[]"


def commands() -> set[str]:
    from vbot_campaign.cli import app

    single = {info.name or info.callback.__name__ for info in app.registered_commands if info.callback}
    return single | {str(group.name) for group in app.registered_groups}


def test_help_lists_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vbot_campaign.cli", "--help"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0
    assert commands() <= set(re.findall(r"[a-z]+(?:-[a-z]+)*", done.stdout))


# --- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines"


# --- documents ------------------------------------------------------------------------------------------------------


def links(path: Path) -> Iterator[str]:
    """Yield the relative targets of a document's links, outside of code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            yield target


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+?)\s*$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in links(path):
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), target


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_targets_and_commands_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", code)) <= make_targets()
    assert set(re.findall(r"\bvbot-campaign ([a-z]+)\b", code)) <= commands()


def test_what_survives_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "what-survives.md").read_text(encoding="utf-8")
    file, missing, found = "", [], 0
    for path, name in re.findall(r"`(tests/[\w/]+\.py|…)(?:::(\w+))?`", text):
        file = file if path == "…" else path
        found += 1
        if f"def {name}" not in (ROOT / file).read_text(encoding="utf-8"):
            missing.append(f"{file}::{name}")
    assert found > 30
    assert missing == []


def test_help_of_make_shows_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = set(re.findall(r"^([a-z][a-z-]*):.*## ", makefile, flags=re.MULTILINE))
    assert shown == make_targets()


# --- versions -------------------------------------------------------------------------------------------------------


def direct_dependencies() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    return [Requirement(text) for text in (*project["dependencies"], *extras)]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line.strip() and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("requirement", direct_dependencies(), ids=str)
def test_every_direct_dependency_is_pinned(requirement: Requirement) -> None:
    version = pins().get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} has no line in constraints.txt"
    assert requirement.specifier.contains(version), f"{requirement} does not allow {version}"
