"""Which physics engines need a package of their own; asked without loading it."""

from __future__ import annotations

import importlib.util
import sys

from vbot_campaign.errors import PhysicsUnavailableError

_OPTIONAL = ("motrixsim",)
"""Engines whose package has their name and is an extra of this program."""


def require_engine(name: str) -> None:
    """Check that the package of an engine, or of each in a mixture such as ``mujoco+motrixsim``, is installed.

    Raises:
        PhysicsUnavailableError: It is not; the message has the install line.
    """
    for engine in name.split("+"):
        if engine in _OPTIONAL and not is_installed(engine):
            raise PhysicsUnavailableError(
                f"physics: {engine} is not installed. Install it with: pip install 'vbot-campaign[{engine}]' "
                "(Linux and Windows, Python 3.11 to 3.13)."
            )


def is_installed(package: str) -> bool:
    """Tell whether a package could be imported, without doing it."""
    if package in sys.modules:
        return sys.modules[package] is not None
    return importlib.util.find_spec(package) is not None
