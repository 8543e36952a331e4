"""Which physics engines need a package of their own; asked without loading it."""

from __future__ import annotations

import importlib.util
import sys

from vbot_campaign.errors import PhysicsUnavailableError

_OPTIONAL = ("motrixsim",)
"""Engines whose package has their name and is an extra of this program."""


def require_engine(name: str) -> None:
    """Check that an engine's package is installed.

    Raises:
        PhysicsUnavailableError: It is not; the message has the install line.
    """
    if name in _OPTIONAL and not _installed(name):
        raise PhysicsUnavailableError(
            f"physics: {name} is not installed. Install it with: pip install 'vbot-campaign[{name}]' "
            "(Linux and Windows, Python 3.11 to 3.13)."
        )


def _installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    return importlib.util.find_spec(package) is not None
