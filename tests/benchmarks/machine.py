"""What the figures were measured on."""

from __future__ import annotations

import os
import platform

import torch

from vbot_campaign.supervisor.slots import available_cores


def describe_machine() -> str:
    """Return cores, GPU, versions and the present load in one line."""
    gpu = [torch.cuda.get_device_name(0)] if torch.cuda.is_available() else []
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    parts = [f"{available_cores()} cores, {platform.machine()}", *gpu, versions]
    return ", ".join(parts) + f", load {os.getloadavg()[0]:.1f} at the start"
