"""HTML and SVG as text in which everything a person could have named is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = frozenset({"br", "circle", "hr", "line", "link", "meta", "path", "polygon", "polyline", "rect"})


class Markup(str):
    """Text that is markup already; any other text is escaped where it is put into an element."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]


def el(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """Return an element.

    Args:
        name: Tag.
        *children: Texts, elements, or nested sequences of them; None is left out.
        **attributes: ``class_`` is ``class``, and an underscore elsewhere is a hyphen. None and False are left out,
            True is an attribute without a value.
    """
    opening = name + "".join(_attribute(key, value) for key, value in attributes.items())
    inner = join(children)
    return Markup(f"<{opening}/>" if name in _VOID and not inner else f"<{opening}>{inner}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Return texts and elements one after the other."""
    return Markup("".join(_text(child) for child in children))


def number(value: float) -> str:
    """Return a coordinate with one decimal at most, as short as it can be written."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return html.escape(str(child))
    return join(child)


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = number(value) if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text)}"'
