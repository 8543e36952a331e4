"""Python, packages, engines and the renderer. What is heavy or may crash is tried in a process of its own."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from vbot_campaign.playback.opengl import CONTEXTS, VARIABLE
from vbot_campaign.spec.physics import is_installed
from vbot_campaign.watch.doctor import Check, Level

DISTRIBUTION = "vbot-campaign"
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
"""The versions that were tested; only in a checkout."""
OLDEST_PYTHON = (3, 11)
PROBE_S = 120.0
"""A cold disk may take a minute to load torch."""

_TORCH = """
import torch
print(torch.__version__, "cuda" if torch.cuda.is_available() else "cpu", torch.version.cuda or "")
assert float(torch.ones(8, 8).matmul(torch.ones(8, 8)).sum()) == 512.0
"""
_MUJOCO = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><body pos='0 0 1'><freejoint/><geom size='.1'/></body></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_step(model, data, nstep=100)
assert data.qpos[2] < 0.99
print(mujoco.__version__)
"""
_MOTRIXSIM = """
import motrixsim
from importlib.metadata import version
print(version("motrixsim"))
"""
_RENDERER = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='box' size='.3 .3 .3' rgba='1 0 0 1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 48, 64)
renderer.update_scene(data)
assert int(renderer.render().max()) > 40, "the picture is black"
print("drawn")
"""


def python() -> Iterator[Check]:
    """Ask for the interpreter's version."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        yield Check("Python", Level.FAIL, found, "Install Python 3.11 or newer.")
    else:
        yield Check("Python", Level.OK, found)


def packages() -> Iterator[Check]:
    """Ask for what the program needs, and how it differs from what was tested."""
    found = {name: installed(name) for name in needed()}
    wrong = [problem for name, wanted in needed().items() if (problem := mismatch(name, wanted, found[name]))]
    older = [text for name, tested in pinned_versions().items() if (text := older_than(name, tested, found.get(name)))]
    advice = "Run: pip install -c constraints.txt -e . (in a checkout), or pip install --upgrade vbot-campaign"
    if wrong:
        yield Check("packages", Level.FAIL, "; ".join(wrong), advice)
    elif older:
        yield Check("packages", Level.WARN, f"older than what was tested: {', '.join(older)}", advice)
    else:
        yield Check("packages", Level.OK, f"all {len(found)} that are needed are there")


def needed() -> dict[str, Requirement]:
    """Return what the installed program requires on this machine, extras apart."""
    texts = metadata.requires(DISTRIBUTION) or []
    found = [Requirement(text) for text in texts]
    return {r.name: r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})}


def installed(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def mismatch(name: str, wanted: Requirement, version: str | None) -> str | None:
    """Return what is wrong with a package, or None."""
    if version is None:
        return f"{name} is missing"
    fits = wanted.specifier.contains(version, prereleases=True)
    return None if fits else f"{name} is {version}, needed is {wanted.specifier}"


def pinned_versions(constraints: Path = CONSTRAINTS) -> Mapping[str, str]:
    """Return the tested version of each needed package; nothing outside of a checkout."""
    try:
        lines = constraints.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pins = {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }
    return {name: pins[canonicalize_name(name)] for name in needed() if canonicalize_name(name) in pins}


def older_than(name: str, tested: str, version: str | None) -> str | None:
    """Return ``name 1.0 (tested 1.2)`` where a package is older than what was tested, or None."""
    if version is None or Version(version) >= Version(tested):
        return None
    return f"{name} {version} (tested {tested})"


def torch() -> Iterator[Check]:
    """Load torch, multiply, and ask whether it can use a GPU."""
    done = Probe.run(_TORCH)
    if done.output is None:
        yield Check("torch", Level.FAIL, done.problem, "Install it again: pip install -c constraints.txt torch")
        return
    version, device, cuda = f"{done.output} ".split(" ")[:3]
    built = f", built for CUDA {cuda}" if cuda else ", built for the CPU"
    uses = "uses the GPU" if device == "cuda" else "uses the CPU"
    slow = f"; took {done.seconds:.0f} s to load" if done.seconds > 10 else ""
    yield from _torch(f"{version}{built}, {uses}{slow}", device)


def _torch(found: str, device: str) -> Iterator[Check]:
    from vbot_campaign.supervisor.gpus import read_gpus

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    if read_gpus() and device != "cuda" and not hidden:
        advice = "There is a GPU that torch cannot use. See docs/install-gpu.md: driver and CUDA build must match."
        yield Check("torch", Level.FAIL, found, advice)
    else:
        yield Check("torch", Level.OK, found)


def mujoco() -> Iterator[Check]:
    """Load MuJoCo and let something fall."""
    done = Probe.run(_MUJOCO)
    if done.output is None:
        yield Check("mujoco", Level.FAIL, done.problem, "Install it again: pip install -c constraints.txt mujoco")
    else:
        yield Check("mujoco", Level.OK, f"{done.output}, simulates")


def motrixsim() -> Iterator[Check]:
    """Load MotrixSim where it is installed."""
    if not is_installed("motrixsim"):
        how = "Only needed for studies with physics: motrixsim. Run: make install-motrixsim"
        yield Check("motrixsim", Level.WARN, "not installed", how)
        return
    done = Probe.run(_MOTRIXSIM)
    if done.output is None:
        yield Check("motrixsim", Level.FAIL, done.problem, "Run: make install-motrixsim, or pip uninstall motrixsim")
    else:
        yield Check("motrixsim", Level.OK, f"{done.output}, loads")


def renderer() -> Iterator[Check]:
    """Draw a red box without a screen, with EGL or in software."""
    wanted = os.environ.get(VARIABLE)
    tried = [wanted] if wanted else list(CONTEXTS) if sys.platform == "linux" else [""]
    problems = []
    for context in tried:
        done = Probe.run(_RENDERER, {VARIABLE: context} if context else None)
        if done.output is not None:
            software = " (in software, slow but enough for films)" if context == "osmesa" else ""
            yield Check("renderer", Level.OK, f"draws with {context or 'the system'}{software}")
            return
        problems.append(f"{context or 'default'}: {done.problem}")
    advice = (
        "Only films need it. Run: apt-get install libosmesa6 (Debian, Ubuntu), or install the GPU's driver with EGL."
    )
    yield Check("renderer", Level.WARN, f"cannot draw: {'; '.join(problems)}", advice)


class Probe:
    """What a piece of Python said in a process of its own, which may crash or hang without harm."""

    def __init__(self, output: str | None, problem: str, seconds: float) -> None:
        self.output = output
        """Its last line; None when it failed."""
        self.problem = problem
        self.seconds = seconds

    @classmethod
    def run(cls, code: str, variables: Mapping[str, str] | None = None, *, timeout_s: float = PROBE_S) -> Probe:
        """Run code, with some variables beside the environment's, and return what came of it."""
        begun = time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, **(variables or {})},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            return cls(None, f"no answer within {timeout_s:g} s", timeout_s)
        seconds = time.monotonic() - begun
        if done.returncode == 0:
            return cls((done.stdout.strip().splitlines() or [""])[-1], "", seconds)
        return cls(None, _last_error(done.stderr, done.returncode), seconds)


def _last_error(stderr: str, code: int) -> str:
    # What a destructor says after the error (mujoco's renderer does) is not the error.
    errors = re.findall(r"^(\w[\w.]*(?:Error|Exception|Exit|Warning)\b.*)$", stderr, flags=re.MULTILINE)
    if errors:
        return str(errors[0])[:200]
    return f"killed by signal {-code}" if code < 0 else (stderr.strip().splitlines() or [f"exit code {code}"])[-1][:200]
