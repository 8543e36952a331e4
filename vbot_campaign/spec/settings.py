"""What holds for a machine and a person, and belongs in no study file: where the database is."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.storage_url import checked_storage_url, has_password

STORAGE_VARIABLE = "VBOT_CAMPAIGN_STORAGE"
SETTINGS_VARIABLE = "VBOT_CAMPAIGN_SETTINGS"
FILE = "file"
"""In place of an address: the file in the runs folder, whatever the settings file says."""
_KEYS = ("storage",)


def settings_file() -> Path:
    """Return the settings file: ``$VBOT_CAMPAIGN_SETTINGS``, or the one in the user's folder for such files."""
    named = os.environ.get(SETTINGS_VARIABLE)
    return Path(named) if named else _user_folder() / "vbot-campaign" / "settings.yaml"


def _user_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def storage_address(option: str | None = None, inherited: str | None = None) -> str | None:
    """Return the address of the database, or None where it is the file in the runs folder.

    The option goes before the variable, and that before the settings file.

    Args:
        option: What the command line says.
        inherited: What the variable says, where it was taken out of the environment.

    Raises:
        SpecError: It is no address of a database that can be used, or the settings file is wrong.
    """
    variable = os.environ.get(STORAGE_VARIABLE) or inherited
    for address, origin in ((option, "--storage"), (variable or None, f"${STORAGE_VARIABLE}")):
        if address is not None:
            return None if address == FILE else checked_storage_url(address, origin)
    return _of_file(settings_file())


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # in somebody else's home
        return False


def _of_file(file: Path) -> str | None:
    if not _is_there(file):
        if os.environ.get(SETTINGS_VARIABLE):
            raise SpecError(f"{file}: no such file; ${SETTINGS_VARIABLE} names it.")
        return None
    from vbot_campaign.spec.document import read_document

    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    if all(line.strip() == "" or line.strip().startswith("#") for line in lines):
        return None
    value = read_document(file).value
    for key in value:
        if key not in _KEYS:
            raise SpecError(f"{file}: {key}: unknown key.{did_you_mean(str(key), _KEYS)} Valid: {', '.join(_KEYS)}.")
    address = value.get("storage")
    if address is None:
        return None
    if not isinstance(address, str):
        raise SpecError(f"{file}: storage: is not a text; write the address of a database, or leave it out.")
    address = checked_storage_url(address, f"{file}: storage")
    if has_password(address) and sys.platform != "win32" and stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise SpecError(f"{file}: holds a password and others may read it. Make it yours alone: chmod 600 {file}")
    return address
