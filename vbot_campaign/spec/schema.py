"""The JSON schemas of all kinds of files, so that editors complete and check while one types.

``python -m vbot_campaign.spec.schema`` prints that of study files, ``vbot-campaign schema`` all of them.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from pydantic import BaseModel, RootModel

from vbot_campaign.spec import objective, plan, reward_file, search_file, study, training, training_file
from vbot_campaign.spec.environments import environment_names, get_environment
from vbot_campaign.spec.plan import PlanSpec
from vbot_campaign.spec.reward_file import RewardFile
from vbot_campaign.spec.search_file import SearchSpaceFile
from vbot_campaign.spec.study import RewardReference, SearchSpaceReference, StudySpec
from vbot_campaign.spec.training import PpoSettings
from vbot_campaign.spec.training_file import TrainingFile

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MODULES: tuple[ModuleType, ...] = (study, training, objective, training_file, plan, reward_file, search_file)
_MODELS: dict[str, type[BaseModel]] = {
    "study": StudySpec,
    "training": TrainingFile,
    "plan": PlanSpec,
    "search_space": SearchSpaceFile,
    "reward": RewardFile,
}


def json_schema(kind: str = "study") -> dict[str, Any]:
    """Return the schema of a kind of file.

    It knows the names of PPO settings, reward terms and environment settings. What depends on several values at once
    (a prior inside its range, conditions) is left to the loading of the file.

    Args:
        kind: One of `vbot_campaign.spec.kinds.KINDS`.
    """
    model = _MODELS[kind]
    schema = model.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    for part in (PpoSettings, RewardReference, SearchSpaceReference):
        definitions.setdefault(part.__name__, part.model_json_schema())
    _add_field_docs(schema, model.__name__)
    for properties in _all_properties(schema):
        _name_groups(definitions, properties)
    if kind == "study":
        schema["properties"]["reward"] = {"$ref": "#/$defs/RewardReference"}
    _drop_unused(schema)
    return {"$schema": _DIALECT, "title": f"vbot-campaign {kind.replace('_', ' ')}", **_clean(schema)}


def _drop_unused(schema: dict[str, Any]) -> None:
    definitions = schema["$defs"]
    unused = list(definitions)
    while unused:
        text = json.dumps(schema)
        unused = [name for name in definitions if f'"#/$defs/{name}' not in text]
        for name in unused:
            del definitions[name]


def _all_properties(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the properties of the file and of everything in it that has groups of settings."""
    yield schema["properties"]
    for definition in list(schema["$defs"].values()):
        yield definition.get("properties", {})


def _name_groups(definitions: dict[str, Any], properties: dict[str, Any]) -> None:
    """Put the names that the groups have into properties that hold settings."""
    names = _group_names()
    values: dict[str, dict[str, Any]] = {group: {name: {} for name in entries} for group, entries in names.items()}
    values["ppo"] = {name: {"$ref": f"#/$defs/PpoSettings/properties/{name}"} for name in names["ppo"]}
    values["reward"] = {name: {"type": "number"} for name in names["reward"]}
    if "environment" in properties:
        properties["environment"] = {**_described(properties["environment"]), "enum": environment_names()}
    if "additionalProperties" in properties.get("search_space", {}):
        _name_parameters(definitions, properties)
    if "fixed" in properties:
        properties["fixed"] = {**_described(properties["fixed"]), **_group_schema(values)}
    for group in ("ppo", "env"):
        if properties.get(group, {}).get("type") == "object":
            properties[group] = {**_described(properties[group]), **_closed(values[group])}
    reward = properties.get("reward", {})
    if reward.get("additionalProperties") == {"type": "number"}:
        weights = [_closed(values["reward"]), {"$ref": "#/$defs/RewardReference"}]
        properties["reward"] = {**_described(reward), "anyOf": weights}
    elif "propertyNames" in reward:
        properties["reward"] = {**_described(reward), **_categories()}


def _name_parameters(definitions: dict[str, Any], properties: dict[str, Any]) -> None:
    space = properties["search_space"]
    definitions["Parameter"] = space["additionalProperties"]["additionalProperties"]
    entries = {group: {name: {"$ref": "#/$defs/Parameter"} for name in n} for group, n in _group_names().items()}
    named = _group_schema(entries)
    # A file of ranges has them itself; a study and a stage of a plan may refer to one.
    choice = named if "presets" in properties else {"anyOf": [named, {"$ref": "#/$defs/SearchSpaceReference"}]}
    properties["search_space"] = {**_described(space), **choice}


def _categories() -> dict[str, Any]:
    grouped: dict[str, dict[str, Any]] = {}
    for declaration in map(get_environment, environment_names()):
        for name, term in declaration.rewards.items():
            grouped.setdefault(term.category, {})[name] = {"type": "number", "description": term.formula}
    return _group_schema(grouped)


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": schema["description"]} if "description" in schema else {}


def _group_names() -> dict[str, list[str]]:
    declarations = [get_environment(name) for name in environment_names()]
    return {
        "ppo": list(PpoSettings.model_fields),
        "reward": sorted({name for declaration in declarations for name in declaration.rewards}),
        "env": sorted({name for declaration in declarations for name in declaration.settings}),
    }


def _group_schema(entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return _closed({group: _closed(properties) for group, properties in entries.items()})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _add_field_docs(schema: dict[str, Any], top: str) -> None:
    """Copy the sentence under each field of the models into the schema."""
    models = {
        name: model
        for module in _MODULES
        for name, model in inspect.getmembers(module, inspect.isclass)
        if issubclass(model, BaseModel) and not issubclass(model, RootModel)
    }
    for name, definition in [*schema["$defs"].items(), (top, schema)]:
        for key, text in _field_docs(models[name]).items() if name in models else ():
            if key in definition.get("properties", {}):
                definition["properties"][key]["description"] = text


def _field_docs(model: type[BaseModel]) -> dict[str, str]:
    docs: dict[str, str] = {}
    for base in reversed([base for base in model.__mro__ if base.__module__.startswith("vbot_campaign.")]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, after in itertools.pairwise(statements):
            text = _constant_text(after)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and text is not None:
                docs[field.target.id] = " ".join(text.split())
    return docs


def _constant_text(statement: ast.stmt) -> str | None:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def _clean(value: Any, *, names: bool = False) -> Any:
    """Drop what says nothing to a reader; let counts have underscores (to YAML 1.2 editors a text, to us a number)."""
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if not isinstance(value, dict):
        return value
    if names:
        return {key: _clean(item) for key, item in value.items()}
    result = {
        key: _clean(item, names=key in ("properties", "$defs"))
        for key, item in value.items()
        if not (key == "title" or (key == "default" and item is None) or key == "discriminator")
    }
    if result.get("type") == "integer":
        result = {**result, "type": ["integer", "string"], "pattern": "^-?[0-9][0-9_]*$"}
    return result


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
