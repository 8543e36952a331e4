"""Stands in for ``vbot_campaign.worker.starting_policy`` on checkpoints of the toy worker."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vbot_campaign import fs

if __name__ == "__main__":
    file = Path(sys.argv[1])
    content = json.loads(file.read_text())
    layers = [256, 128, 64]
    print(
        json.dumps(
            {
                "path": str(file.absolute()),
                "sha256": fs.sha256(file),
                "bytes": file.stat().st_size,
                "env_steps": content.get("env_steps"),
                "policy_hidden_layer_sizes": layers,
                "value_hidden_layer_sizes": layers,
            }
        )
    )
