"""What holds for a machine and a person, and belongs in no study file: where the database is, and where trials run."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.storage_url import checked_storage_url, has_password

STORAGE_VARIABLE = "VBOT_CAMPAIGN_STORAGE"
SETTINGS_VARIABLE = "VBOT_CAMPAIGN_SETTINGS"
FILE = "file"
"""In place of an address: the file in the runs folder, whatever the settings file says."""
LAUNCHERS = ("local", "ray")
RAY_ADDRESS = "auto"
"""The Ray cluster that this machine belongs to."""
_KEYS = ("storage", "launcher", "ray_address")


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
    return _storage_of(settings_file())


def launcher_choice(launcher: str | None = None, address: str | None = None) -> tuple[str, str]:
    """Return where trials run, and the address of the Ray cluster. Options go before the settings file.

    Args:
        launcher: What ``--launcher`` says.
        address: What ``--address`` says.

    Raises:
        SpecError: There is no such launcher, the address is for another one, or the settings file is wrong.
    """
    file = settings_file()
    values = _values_of(file)
    chosen = _text(file, values, "launcher") or LAUNCHERS[0]
    origin = f"{file}: launcher"
    if launcher is not None:
        chosen, origin = launcher, "--launcher"
    if chosen not in LAUNCHERS:
        valid = ", ".join(LAUNCHERS)
        raise SpecError(f"{origin}: '{chosen}' is unknown.{did_you_mean(chosen, LAUNCHERS)} Valid: {valid}.")
    if address is not None and chosen != "ray":
        raise SpecError(f"--address {address}: is the address of a Ray cluster; say --launcher ray as well.")
    return chosen, address or _text(file, values, "ray_address") or RAY_ADDRESS


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # in somebody else's home
        return False


def _values_of(file: Path) -> dict[str, Any]:
    if not _is_there(file):
        if os.environ.get(SETTINGS_VARIABLE):
            raise SpecError(f"{file}: no such file; ${SETTINGS_VARIABLE} names it.")
        return {}
    from vbot_campaign.spec.document import read_document

    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    if all(line.strip() == "" or line.strip().startswith("#") for line in lines):
        return {}
    value = read_document(file).value
    for key in value:
        if key not in _KEYS:
            raise SpecError(f"{file}: {key}: unknown key.{did_you_mean(str(key), _KEYS)} Valid: {', '.join(_KEYS)}.")
    return dict(value)


def _text(file: Path, values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is None or isinstance(value, str):
        return value
    what = {"storage": "the address of a database", "ray_address": "the address of a Ray cluster"}
    raise SpecError(f"{file}: {key}: is not a text; write {what.get(key, ' or '.join(LAUNCHERS))}, or leave it out.")


def _storage_of(file: Path) -> str | None:
    address = _text(file, _values_of(file), "storage")
    if address is None:
        return None
    address = checked_storage_url(address, f"{file}: storage")
    if has_password(address) and sys.platform != "win32" and stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise SpecError(f"{file}: holds a password and others may read it. Make it yours alone: chmod 600 {file}")
    return address
