"""Numbers as people read them, short enough for a table."""

from __future__ import annotations

from typing import Any

NOTHING = "-"


def duration(seconds: float | None) -> str:
    """Return ``45s``, ``4m10s``, ``2h05m`` or ``3d04h``."""
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def count(number: float) -> str:
    """Return ``950``, ``600k``, ``4.8M`` or ``1.2G``."""
    for limit, factor, unit in ((1e3, 1.0, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if number < limit * 0.9995:
            return f"{number / factor:.3g}{unit}"
    return f"{number / 1e9:.3g}G"


def score(value: float | None) -> str:
    """Return a score with three decimals."""
    return NOTHING if value is None else f"{value:.3f}"


def percent(share: float | None) -> str:
    """Return a share as whole percent."""
    return NOTHING if share is None else f"{share:.0%}"


def value(setting: Any) -> str:
    """Return a setting with at most four significant digits."""
    return f"{setting:.4g}" if isinstance(setting, float) else str(setting)
