"""Chooses how MuJoCo draws without a screen: EGL, or OSMesa in software."""

from __future__ import annotations

import os
import subprocess
import sys

from vbot_campaign.errors import RenderingUnavailableError

VARIABLE = "MUJOCO_GL"

CONTEXTS = ("egl", "osmesa")
_PROBE = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).render()"


def prepare_rendering() -> str:
    """Set ``MUJOCO_GL`` to what works on this machine and return it.

    Call before mujoco is imported: it reads the variable once. EGL comes first, because it uses a GPU where there is
    one; OSMesa draws in software and needs neither GPU nor driver. A value that is set already is kept.

    Raises:
        RenderingUnavailableError: Nothing can draw here.
    """
    wanted = os.environ.get(VARIABLE)
    if sys.platform != "linux":
        return wanted or ""
    for context in (wanted,) if wanted else CONTEXTS:
        if _can_draw(context):
            os.environ[VARIABLE] = context
            return context
    tried = f"{VARIABLE}={wanted}" if wanted else "EGL and OSMesa"
    raise RenderingUnavailableError(
        f"nothing to draw with: {tried} cannot make an off-screen picture. "
        "Run: apt-get install libosmesa6 (Debian, Ubuntu), or install the driver of the GPU with EGL."
    )


def _can_draw(context: str) -> bool:
    # In a process of its own: a library that is there but has no device fails only when it is used, and a failed
    # attempt cannot be taken back in this one.
    environment = {**os.environ, VARIABLE: context}
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE], env=environment, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
