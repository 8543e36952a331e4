"""Proof on this machine that nothing is lost: a toy study under faults of every kind beside one left alone.

`run_chaos` is in `vbot_campaign.chaos.runner`.
"""

from __future__ import annotations
