"""``python -m vbot_campaign.worker.starting_policy PATH ENVIRONMENT``: what a training that starts there must know.

For the supervisor, which never loads torch: prints a `StartingPolicy` as JSON, or ``{"error": …}`` with exit code 2.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vbot_campaign.errors import CampaignError


def main(arguments: list[str]) -> int:
    """Print what was found and return the exit code."""
    path, environment = arguments
    from vbot_campaign.rl.importers import starting_policy
    from vbot_campaign.worker.evaluation import find_checkpoint

    try:
        policy = starting_policy(find_checkpoint(Path(path)), environment)
    except CampaignError as error:
        print(json.dumps({"error": str(error)}))
        return error.exit_code
    print(json.dumps(policy.as_dict()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
