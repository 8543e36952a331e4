"""How to call this program, for the commands that it suggests."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def program() -> str:
    """Return ``vbot-campaign``, or the path of its script where that is not on the PATH."""
    script = Path(sys.executable).parent / "vbot-campaign"
    found = shutil.which("vbot-campaign")
    if (found and Path(found).resolve() == script.resolve()) or not script.exists():
        return "vbot-campaign"
    try:
        return script.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return script.as_posix()
