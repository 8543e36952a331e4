"""Stands in for ``vbot-campaign evaluate`` on checkpoints of the toy worker.

The success rate is what ``TOY_GATE`` says: JSON of stage -> one number per training seed, the plan's first; else 1.
``TOY_GATE_S`` is how long it takes. Every call adds a line to ``TOY_GATE_LOG``, if that is set.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Print what the real one prints, as far as a gate reads it."""
    file = Path(arguments[-1])
    json.loads(file.read_text())
    options = dict(zip(arguments[:-2:2], arguments[1:-2:2], strict=True))
    trial = json.loads((file.parents[1] / "trial.json").read_text())
    stage = trial["study"].split(".")[1]
    rates = json.loads(os.environ.get("TOY_GATE", "{}")).get(stage, [1.0])
    rate = rates[min(trial["training"]["seed"] - 42, len(rates) - 1)]
    if log := os.environ.get("TOY_GATE_LOG"):
        with Path(log).open("a") as lines:
            lines.write(f"{stage} {trial['training']['seed']} {file.name} {json.dumps(options)}\n")
    time.sleep(float(os.environ.get("TOY_GATE_S", "0")))
    episodes = int(options["--episodes"]) * int(options["--seeds"])
    parts = {"success_rate": rate, "time_to_goal": 10.0 * (1.0 - rate)}
    print(json.dumps({"parts": parts, "score": rate, "episodes": {"finished": episodes}}))


if __name__ == "__main__":
    main(sys.argv[1:])
