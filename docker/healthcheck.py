"""Say whether a page of this container answers: exit code 0 or 1, for HEALTHCHECK and for probes.

``healthcheck.py [URL]`` asks the service's own page where none is named, with the token that the container was given.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from pathlib import Path

SERVICE = "http://127.0.0.1:8090/healthz"
TIMEOUT_S = 8


def token() -> str:
    """Return the secret that the pages ask for; empty where there is none."""
    file = os.environ.get("VBOT_CAMPAIGN_TOKEN_FILE")
    return Path(file).read_text(encoding="utf-8").strip() if file else os.environ.get("VBOT_CAMPAIGN_TOKEN", "")


def main(url: str) -> int:
    """Ask once; return the exit code."""
    try:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token()}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - our own address
            print(f"{url}: {answer.status}")
            return 0
    except (OSError, ValueError) as error:
        print(f"{url}: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else SERVICE))
