"""The JSON schema that editors use."""

from __future__ import annotations

import json
from pathlib import Path

from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.schema import json_schema
from vbot_campaign.spec.training import PpoSettings

STORED = Path(__file__).parents[2] / "studies" / "study.schema.json"


def test_the_schema_beside_the_studies_is_current() -> None:
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert stored == json_schema(), "run: python -m vbot_campaign.spec.schema > studies/study.schema.json"


def test_every_reference_leads_somewhere() -> None:
    schema = json_schema()

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    found = references(schema)
    assert len(found) > 40
    for reference in found:
        place: object = schema
        for part in reference.removeprefix("#/").split("/"):
            assert isinstance(place, dict)
            assert part in place, reference
            place = place[part]


def test_names_of_all_groups_are_offered() -> None:
    properties = json_schema()["properties"]
    environment = get_environment("vbot_navigation_section001")
    space, reference = properties["search_space"]["anyOf"]
    assert reference == {"$ref": "#/$defs/SearchSpaceReference"}
    for section in (space, properties["fixed"]):
        groups = section["properties"]
        assert set(groups["ppo"]["properties"]) == set(PpoSettings.model_fields)
        assert set(groups["reward"]["properties"]) == set(environment.rewards)
        assert set(groups["env"]["properties"]) == set(environment.settings)
        assert groups["ppo"]["additionalProperties"] is False


def test_fields_carry_their_sentences() -> None:
    definitions = json_schema()["$defs"]
    assert definitions["Budget"]["properties"]["hours"]["description"] == "Wall time while a supervisor runs."
    assert "Adam's step size" in definitions["PpoSettings"]["properties"]["learning_rate"]["description"]
    assert "condition holds" in definitions["Uniform"]["properties"]["when"]["description"]


def test_the_reference_names_every_key() -> None:
    text = (STORED.parents[1] / "docs" / "study-file.md").read_text(encoding="utf-8")
    schema = json_schema()
    keys = {*schema["properties"], *PpoSettings.model_fields}
    for definition in schema["$defs"].values():
        keys |= set(definition.get("properties", {}))
    missing = [
        key for key in sorted(keys) if f"`{key}`" not in text and f".{key}`" not in text and f"{key}:" not in text
    ]
    assert missing == []
