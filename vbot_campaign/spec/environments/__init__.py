"""Declarations of all environments, by name."""

from __future__ import annotations

from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.spec.environments.declaration import EnvironmentDeclaration, RewardTerm, Setting
from vbot_campaign.spec.environments.vbot_navigation_section001 import DECLARATION as SECTION001

__all__ = ["EnvironmentDeclaration", "RewardTerm", "Setting", "environment_names", "get_environment"]

_DECLARATIONS = {declaration.name: declaration for declaration in (SECTION001,)}


def environment_names() -> list[str]:
    """Return the names of all environments."""
    return sorted(_DECLARATIONS)


def get_environment(name: str) -> EnvironmentDeclaration:
    """Return an environment's declaration.

    Raises:
        SpecError: No environment has that name; the nearest one is named.
    """
    if name not in _DECLARATIONS:
        valid = ", ".join(environment_names())
        near = did_you_mean(name, _DECLARATIONS)
        raise SpecError(f"environment: '{name}' does not exist.{near} Valid: {valid}.")
    return _DECLARATIONS[name]
