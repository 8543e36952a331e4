"""``python -m vbot_campaign.cli``."""

from __future__ import annotations

from vbot_campaign.cli import main

if __name__ == "__main__":
    main()
