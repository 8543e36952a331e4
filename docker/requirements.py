"""Print what pyproject.toml requires, with the extras that are named, for pip: ``requirements.py postgres,serve``."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def main(extras: str) -> int:
    """Print one requirement a line; return the exit code."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    wanted = [name.strip() for name in extras.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in optional]
    if unknown:
        print(f"EXTRAS: no extra '{unknown[0]}' in pyproject.toml. Valid: {', '.join(optional)}.", file=sys.stderr)
        return 2
    print("\n".join(sum((optional[name] for name in wanted), project["dependencies"])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
