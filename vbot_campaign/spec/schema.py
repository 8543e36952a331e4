"""The JSON schema of study files, so that editors complete and check while one types.

``python -m vbot_campaign.spec.schema`` prints it.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
import textwrap
from typing import Any

from pydantic import BaseModel, RootModel

from vbot_campaign.spec import objective, study, training
from vbot_campaign.spec.environments import environment_names, get_environment
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.training import PpoSettings

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema of a study file.

    It knows the names of PPO settings, reward terms and environment settings. What depends on several values at once
    (a prior inside its range, conditions) is left to `load_study`.
    """
    schema = StudySpec.model_json_schema()
    ppo = PpoSettings.model_json_schema()
    definitions = schema["$defs"]
    definitions["PpoSettings"] = ppo
    _add_field_docs(schema)
    properties = schema["properties"]
    properties["environment"] = {"enum": environment_names()}
    parameter = properties["search_space"]["additionalProperties"]["additionalProperties"]
    definitions["Parameter"] = parameter
    names = _group_names()
    properties["search_space"] = _group_schema(
        {group: {name: {"$ref": "#/$defs/Parameter"} for name in entries} for group, entries in names.items()}
    )
    fixed: dict[str, dict[str, Any]] = {group: {name: {} for name in entries} for group, entries in names.items()}
    fixed["ppo"] = {name: {"$ref": f"#/$defs/PpoSettings/properties/{name}"} for name in names["ppo"]}
    properties["fixed"] = _group_schema(fixed)
    cleaned = _clean(schema)
    return {"$schema": _DIALECT, "title": "vbot-campaign study", **cleaned}


def _group_names() -> dict[str, list[str]]:
    declarations = [get_environment(name) for name in environment_names()]
    return {
        "ppo": list(PpoSettings.model_fields),
        "reward": sorted({name for declaration in declarations for name in declaration.rewards}),
        "env": sorted({name for declaration in declarations for name in declaration.settings}),
    }


def _group_schema(entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    def closed(properties: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": False, "properties": properties}

    return closed({group: closed(properties) for group, properties in entries.items()})


def _add_field_docs(schema: dict[str, Any]) -> None:
    """Copy the sentence under each field of the models into the schema."""
    models = {
        name: model
        for module in (study, training, objective)
        for name, model in inspect.getmembers(module, inspect.isclass)
        if issubclass(model, BaseModel) and not issubclass(model, RootModel)
    }
    for name, definition in [*schema["$defs"].items(), ("StudySpec", schema)]:
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
