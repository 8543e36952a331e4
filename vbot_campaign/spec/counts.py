"""Numbers of env steps as people write them."""

from __future__ import annotations

from decimal import Decimal

from vbot_campaign.errors import SpecError

_UNITS = {"k": 1_000, "m": 1_000_000, "b": 1_000_000_000}


def parse_count(option: str, text: str) -> int:
    """Read a positive whole number such as ``16_000_000``, ``16M``, ``1.5m`` or ``2e6``.

    Args:
        option: Where it comes from, for the message.
        text: What was written.

    Raises:
        SpecError: No number, not positive, or not whole.
    """
    digits, unit = (text[:-1], _UNITS[text[-1].lower()]) if text[-1:].lower() in _UNITS else (text, 1)
    try:
        value = Decimal(digits) * unit  # decimal, because 1.005k is 1005 and no float near it
        if 1 <= value < 2**53 and value == value.to_integral_value():
            return int(value)
    except ArithmeticError:
        pass
    raise SpecError(f"{option} {text}: expected a positive whole number, such as 16_000_000 or 16M.")
