"""Whether MuJoCo's window can be opened here, and if not, what is missing.

Loads neither MuJoCo nor GLFW before a window is wanted.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from vbot_campaign.errors import RenderingUnavailableError

if TYPE_CHECKING:
    from vbot_campaign.envs.vbot.task import VbotNavigation

ALTERNATIVE = "Leave --render out, and watch the policy later with: vbot-campaign play RUN --video play.gif"
_PROBE = """
import sys
import glfw
if not glfw._glfw:
    sys.exit(3)
if not glfw.init():
    sys.exit(4)
glfw.window_hint(glfw.VISIBLE, False)
if not glfw.create_window(8, 8, "", None, None):
    sys.exit(5)
"""
_REASONS = {
    3: "the GLFW library is not found, which comes with the package glfw: pip install glfw",
    4: "GLFW cannot reach the screen ({screen})",
    5: "the screen ({screen}) has no OpenGL; its driver is missing",
}


def require_screen(environ: Mapping[str, str] | None = None) -> None:
    """Check that a window with OpenGL can be opened.

    Args:
        environ: Environment; by default this process's.

    Raises:
        RenderingUnavailableError: It cannot; the message says what is missing and what to do instead.
    """
    environ = os.environ if environ is None else environ
    reason = _missing(environ)
    if reason is not None:
        raise RenderingUnavailableError(f"--render: no window can be opened: {reason}. {ALTERNATIVE}")


@contextlib.contextmanager
def open_window(*, wanted: bool) -> Iterator[Callable[[VbotNavigation], None] | None]:
    """Open a `TrainingWindow` for the block and yield its `watch`; None and no window unless wanted.

    Raises:
        RenderingUnavailableError: It cannot be opened.
    """
    if not wanted:
        yield None
        return
    from vbot_campaign.playback.window import TrainingWindow

    with TrainingWindow() as window:
        yield window.watch


def _missing(environ: Mapping[str, str]) -> str | None:
    names = [name for name in ("DISPLAY", "WAYLAND_DISPLAY") if environ.get(name)]
    if sys.platform == "linux" and not names:
        return "there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    if importlib.util.find_spec("glfw") is None:
        return "the package glfw is not installed: pip install glfw"
    screen = ", ".join(f"{name}={environ[name]}" for name in names)
    return _probe(environ, screen)


def _probe(environ: Mapping[str, str], screen: str) -> str | None:
    # In a process of its own: where a driver is broken, MuJoCo's window ends the process or never answers.
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE], env=dict(environ), capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return f"the screen ({screen}) does not answer"
    if done.returncode == 0:
        return None
    other = f"a test window ended with exit code {done.returncode} on the screen ({{screen}})"
    return _REASONS.get(done.returncode, other).format(screen=screen)
