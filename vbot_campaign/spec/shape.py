"""Checks plain values against a model and says in our own words what does not fit.

The words come from the model's JSON schema, so a field's limits are written once: at the field.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vbot_campaign.errors import did_you_mean
from vbot_campaign.spec.problems import KeyPath, Problem, show

Model = TypeVar("Model", bound=BaseModel)
Schema = Mapping[str, Any]


_ELSEWHERE = (
    "belongs to the machine and not in this file, which others read and run elsewhere. Put it in the settings file, in "
    "$VBOT_CAMPAIGN_STORAGE, or before the command: --storage URL (docs/postgresql.md)."
)


def check_shape(model: type[Model], value: Any) -> tuple[Model | None, list[Problem]]:
    """Return the validated model, or None and everything that does not fit it.

    Args:
        model: What is expected.
        value: Plain JSON values. Types are taken at their word: a text is no number, 1 is not true, 3.0 is not whole.
    """
    try:
        # JSON mode takes a list for a tuple even when strict; Python mode does not.
        return model.model_validate_json(json.dumps(value), strict=True), []
    except ValidationError as error:
        return None, _problems(_schema(model), value, error)


@functools.lru_cache(maxsize=16)
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _problems(root: Schema, value: Any, error: ValidationError) -> list[Problem]:
    found: dict[KeyPath, Problem] = {}
    for detail in error.errors(include_url=False):
        path = _path_in(value, detail["loc"], missing=detail["type"] in ("missing", "union_tag_not_found"))
        if detail["type"] == "union_tag_invalid":
            path = (*path, "type")
        if detail["type"] == "union_tag_not_found":
            path = (*path, "type")
        found.setdefault(path, Problem(path, _sentence(root, value, path, detail["type"])))
    # An item that does not fit makes its list look too short as well; the item is what to say.
    return [p for path, p in found.items() if not any(_inside(other, path) for other in found)]


def _inside(path: KeyPath, outer: KeyPath) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _path_in(value: Any, location: tuple[str | int, ...], *, missing: bool) -> KeyPath:
    """Return a location without the parts that name a member of a union and not a place in the document."""
    path: list[str | int] = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(value, dict) and (part in value or (missing and last)):
            path.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
    return tuple(path)


def _sentence(root: Schema, document: Any, path: KeyPath, kind: str) -> str:
    parent, value = _at(root, document, path[:-1])
    key = path[-1] if path else None
    if path and (kind == "extra_forbidden" or (kind == "literal_error" and not _child(root, parent, value, key))):
        if path == ("storage",):
            return _ELSEWHERE
        names = sorted(parent.get("properties") or _key_names(parent))
        return f"unknown key.{did_you_mean(str(key), names)} Valid: {', '.join(names)}."
    schema, here = _at(root, document, path)
    if kind in ("missing", "union_tag_not_found"):
        return f"is missing; expected {valid_text(root, schema)}."
    near = did_you_mean(str(here), [str(name) for name in schema.get("enum", [])]) if isinstance(here, str) else ""
    shown = f"{here:.1f}" if isinstance(here, float) and here.is_integer() and abs(here) < 1e15 else show(here)
    return f"{shown} is not valid; expected {valid_text(root, schema)}.{near}{_hint(here, schema)}"


def _hint(value: Any, schema: Schema) -> str:
    if value is None:
        return " Leave the line out or give it a value."
    if isinstance(value, str) and schema.get("type") in ("number", "integer"):
        try:
            float(value.replace("_", ""))
        except ValueError:
            return ""
        return " Remove the quotes."
    if isinstance(value, str) and schema.get("type") == "boolean" and value.lower() in ("yes", "no", "on", "off"):
        return " Did you mean 'true'?" if value.lower() in ("yes", "on") else " Did you mean 'false'?"
    if isinstance(value, float) and schema.get("type") == "integer" and value.is_integer():
        return f" Write {int(value)}."
    if "discriminator" in schema:
        return " A value that is not searched goes under 'fixed'."
    if isinstance(value, list) and "anyOf" in schema:
        return " For lists use type categorical with choices."
    return ""


# --- walking the schema beside the document -------------------------------------------------------------------------


def _at(root: Schema, document: Any, path: KeyPath) -> tuple[Schema, Any]:
    """Return the schema and the value at a path."""
    schema, value = _resolve(root, root, document), document
    for part in path:
        schema = _child(root, schema, value, part) or {}
        inside = isinstance(value, dict) or (isinstance(value, list) and isinstance(part, int))
        value = (value.get(part) if isinstance(value, dict) else value[part]) if inside else None
        schema = _resolve(root, schema, value)
    return schema, value


def _child(root: Schema, schema: Schema, value: Any, part: str | int | None) -> Schema | None:
    if isinstance(part, int):
        return schema.get("items") or {}
    if part == "type" and "discriminator" in schema:
        return {"type": "string", "enum": list(schema["discriminator"]["mapping"])}
    properties = schema.get("properties", {})
    if part in properties:
        return dict(properties[part])
    names = _key_names(schema)
    if names and part not in names:
        return None
    rest = schema.get("additionalProperties")
    return rest if isinstance(rest, dict) else ({} if rest else None)


def _key_names(schema: Schema) -> list[str]:
    return list(schema.get("propertyNames", {}).get("enum", []))


def _resolve(root: Schema, schema: Schema, value: Any) -> Schema:
    """Follow references and pick the branch of a union that a value was meant for."""
    while True:
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        elif "discriminator" in schema and isinstance(value, dict) and _tag(schema, value) is not None:
            schema = {"$ref": _tag(schema, value)}
        elif "anyOf" in schema:
            branches = [branch for branch in schema["anyOf"] if branch.get("type") != "null"]
            fitting = [branch for branch in branches if _fits(_resolve(root, branch, value), value)]
            if len(branches) > 1 and not fitting:
                return schema
            schema = (fitting or branches)[0]
        else:
            return schema


def _tag(schema: Schema, value: Mapping[str, Any]) -> str | None:
    tag = value.get("type")
    return schema["discriminator"]["mapping"].get(tag) if isinstance(tag, str) else None


def _fits(schema: Schema, value: Any) -> bool:
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    expected = kinds.get(str(schema.get("type")), object)
    return isinstance(value, expected) and (expected is bool or not isinstance(value, bool))


# --- words ----------------------------------------------------------------------------------------------------------


def valid_text(root: Schema, schema: Schema) -> str:
    """Say in words what a schema allows."""
    schema = _resolve(root, schema, None)
    if "const" in schema or "enum" in schema:
        names = schema.get("enum") or [schema["const"]]
        return "one of " + ", ".join(str(name) for name in names)
    if "anyOf" in schema:
        kinds = dict.fromkeys(valid_text(root, branch) for branch in schema["anyOf"] if branch.get("type") != "null")
        if "a number" in kinds:
            kinds.pop("a whole number", None)
        return " or ".join(kinds)
    if "discriminator" in schema:
        return "a mapping with a type: " + ", ".join(schema["discriminator"]["mapping"])
    words = _WORDS.get(str(schema.get("type")))
    return words(root, schema) if words else "a value"


def _number_text(root: Schema, schema: Schema) -> str:
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    return kind + _span(schema)


def _span(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    parts = []
    if low is not None and high is not None:
        return f" from {show(low)} to {show(high)}"
    if low is not None:
        parts.append(f"of at least {show(low)}")
    if above is not None:
        parts.append(f"above {show(above)}")
    if high is not None:
        parts.append(f"of at most {show(high)}")
    if below is not None:
        parts.append(f"below {show(below)}")
    return f" {' and '.join(parts)}" if parts else ""


def _text_text(root: Schema, schema: Schema) -> str:
    if "pattern" in schema:
        return "up to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
    return "a text"


def _list_text(root: Schema, schema: Schema) -> str:
    items = valid_text(root, schema.get("items", {}))
    least, most = schema.get("minItems"), schema.get("maxItems")
    count = f" with {least} to {most} entries" if most else (f" with at least {least} entry" if least else "")
    return f"a list{count}, each {items}"


def _mapping_text(root: Schema, schema: Schema) -> str:
    names = list(schema.get("properties") or _key_names(schema))
    return f"a mapping with {', '.join(names)}" if names else "a mapping of names to values"


_WORDS = {
    "integer": _number_text,
    "number": _number_text,
    "boolean": lambda root, schema: "true or false",
    "string": _text_text,
    "array": _list_text,
    "object": _mapping_text,
}
