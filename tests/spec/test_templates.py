"""The templates, their schemas, and new files made from them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.files import ROOT, TEMPLATES, write_files
from vbot_campaign.errors import SpecError
from vbot_campaign.spec.document import read_document
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.kinds import KINDS, kind_of
from vbot_campaign.spec.loading import load_plan, load_study, load_training
from vbot_campaign.spec.reward_file import read_rewards
from vbot_campaign.spec.schema import json_schema
from vbot_campaign.spec.search_file import read_search_space, select
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.templates import new_file, schema_file, templates_folder
from vbot_campaign.spec.training import PpoSettings

FILES = sorted(TEMPLATES.glob("*.yaml"))
OF_KIND = {template: kind.name for kind in KINDS.values() for template in kind.templates}
LOADERS = {
    "study": load_study,
    "training": load_training,
    "plan": load_plan,
    "search_space": lambda path: read_search_space(read_document(path)),
    "reward": lambda path: read_rewards(read_document(path)),
}


def load(path: Path) -> object:
    """Load a file as what it takes itself for."""
    kind = kind_of(read_document(path).value)
    assert kind is not None
    return LOADERS[kind.name](path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_six() -> None:
    assert {file.name for file in FILES} == set(OF_KIND)
    assert len(FILES) == 6
    assert templates_folder() == TEMPLATES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_template_is_valid_and_of_its_kind(file: Path) -> None:
    kind = kind_of(read_document(file).value)
    assert kind is not None
    assert kind.name == OF_KIND[file.name]
    load(file)


@pytest.mark.parametrize("file", [*FILES, *(ROOT / "studies").glob("*.yaml")], ids=lambda file: file.name)
def test_the_editors_line_leads_to_the_schema_of_the_kind(file: Path) -> None:
    line = file.read_text(encoding="utf-8").splitlines()[0]
    reference = line.removeprefix("# yaml-language-server: $schema=")
    kind = kind_of(read_document(file).value)
    assert kind is not None
    assert (file.parent / reference).resolve() == schema_file(kind.name).resolve()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "study"])
def test_the_schemas_beside_the_templates_are_current(kind: str) -> None:
    stored = json.loads(schema_file(kind).read_text(encoding="utf-8"))
    assert stored == json_schema(kind), f"run: vbot-campaign schema {kind} > templates/{kind}.schema.json"


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_has_no_loose_ends(kind: str) -> None:
    schema = json_schema(kind)
    text = json.dumps(schema)
    assert set(re.findall(r'"#/\$defs/(\w+)', text)) == set(schema["$defs"])
    assert schema["additionalProperties"] is False


def test_schemas_offer_the_names_of_all_groups() -> None:
    terms = set(get_environment("vbot_navigation_section001").rewards)
    training = json_schema("training")["properties"]
    assert training["ppo"]["$ref"] == "#/$defs/PpoSettings"
    assert set(training["reward"]["anyOf"][0]["properties"]) == terms
    assert training["reward"]["anyOf"][1] == {"$ref": "#/$defs/RewardReference"}
    stage = json_schema("plan")["$defs"]["Stage"]["properties"]
    assert set(stage["ppo"]["properties"]) == set(PpoSettings.model_fields)
    assert set(stage["reward"]["anyOf"][0]["properties"]) == terms
    categories = json_schema("reward")["properties"]["reward"]["properties"]
    assert {term for category in categories.values() for term in category["properties"]} == terms


def test_the_presets_of_the_search_space() -> None:
    space = read_search_space(read_document(TEMPLATES / "search_space_template.yaml"))
    assert list(space.presets) == ["quick_test", "reward_focus", "ppo_focus", "full_search"]
    groups = {name: {n.split(".")[0] for n in select(space, name).searched} for name in space.presets}
    assert groups == {
        "quick_test": {"ppo", "reward"},
        "reward_focus": {"reward"},
        "ppo_focus": {"ppo"},
        "full_search": {"ppo", "reward"},
    }
    for name in space.presets:
        chosen = select(space, name)
        assert sorted([*chosen.searched, *chosen.fixed]) == sorted(space.names)


def test_the_reward_template_names_every_term_with_its_default() -> None:
    rewards = read_rewards(read_document(TEMPLATES / "reward_config_template.yaml"))
    named = {term: value for terms in rewards.reward.values() for term, value in terms.items()}
    declared = get_environment(rewards.environment).rewards
    assert named == {term.name: term.default for term in declared.values()}
    assert rewards.presets


def test_the_training_template_names_the_defaults() -> None:
    training = load_training(TEMPLATES / "config_template.yaml")
    assert training.ppo == PpoSettings()


# --- new ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("template", "kind"), OF_KIND.items())
def test_a_new_file_says_what_its_template_says(template: str, kind: str, here: Path) -> None:
    path, made_from = new_file(kind, "mine", template, here / "deep" / "mine.yaml")
    assert made_from == TEMPLATES / template
    text = path.read_text(encoding="utf-8")
    assert f"templates/{template}" not in text
    assert text.count("#") == made_from.read_text(encoding="utf-8").count("#"), "every comment is there"
    changes = {KINDS[kind].name_key: "mine"} if KINDS[kind].name_key else {}
    assert load(path) == LOADERS[kind](made_from).model_copy(update=changes)
    reference = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / reference).resolve() == schema_file(kind).resolve()


def test_a_new_study_lies_in_studies(here: Path) -> None:
    path, _ = new_file("study", "mine")
    assert path == Path("studies/mine.yaml")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "study: mine                             # the name; results go to the folder of that name in runs/" in lines


def test_a_file_that_is_there_stays(here: Path) -> None:
    path, _ = new_file("plan", "mine")
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(SpecError, match=r"studies/mine.yaml: is there already, and stays as it is. Give another NAME"):
        new_file("plan", "mine")
    assert path.read_text(encoding="utf-8") == "mine"


def test_references_lead_to_the_same_files_from_elsewhere(here: Path) -> None:
    write_files(here)
    path, _ = new_file("plan", "copy", "plan.yaml", Path("plans/copy.yaml"))
    text = path.read_text(encoding="utf-8")
    assert "search_space: {file: ../space.yaml, preset: rewards}" in text
    assert text.count("file: ../rewards.yaml") == 2
    assert load_plan(path) == load_plan(Path("plan.yaml")).model_copy(update={"plan": "copy"})


def test_a_training_without_a_tag_gets_one(here: Path) -> None:
    Path("old.yaml").write_text("env_steps: 100_000  # few\n", encoding="utf-8")
    path, _ = new_file("training", "mine", "old.yaml")
    assert path.read_text(encoding="utf-8") == "env_steps: 100_000  # few\n\nrun_tag: mine\n"


@pytest.mark.parametrize("name", ["1e5", "true", "007", "null"])
def test_a_name_that_yaml_reads_as_something_else(name: str, here: Path) -> None:
    path, _ = new_file("study", name)
    study = load_study(path)
    assert isinstance(study, StudySpec)
    assert study.study == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stdy", "mine"), r"'stdy' is no kind of file. Did you mean 'study'\?"),
        (("study", "../mine"), "study '../mine' cannot be a name"),
        (("study", "vbot_navigation_section001"), "is the name of an environment"),
        (("study", "reward_library"), "is the name of a file or folder in runs/"),
        (("study", "mine", "plan_template"), "plan_template.yaml: is a plan, not a study"),
        (("plan", "mine", "curiculum_plan_template"), r"Did you mean 'curriculum_plan_template.yaml'\?"),
    ],
)
def test_refused(arguments: tuple[str, ...], message: str, here: Path) -> None:
    with pytest.raises(SpecError, match=message):
        new_file(*arguments)
    assert list(here.iterdir()) == []


# --- kinds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"study": "x", "stages": []}, "study"),
        ({"budget": {}, "objective": {}}, "study"),
        ({"stages": [], "budget": {}, "objective": {}}, "plan"),
        ({"env_steps": 1, "reward": {}}, "training"),
        ({"search_space": {}}, "search_space"),
        ({"reward": {}}, "reward"),
        ({"record": {}, "env": {}}, "reward"),
        ({"environment": "x"}, None),
        ([], None),
    ],
)
def test_what_kind_a_file_is(value: object, kind: str | None) -> None:
    found = kind_of(value)
    assert (found.name if found else None) == kind


@pytest.mark.parametrize("kind", ["training", "plan"])
def test_the_reference_names_every_key(kind: str) -> None:
    text = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8")
    schema = json_schema(kind)
    parts = (
        "Stage",
        "StageSearch",
        "StageConfirm",
        "StageTraining",
        "StageWarmStart",
        "Gate",
        "PlanBudget",
        "BudgetShares",
    )
    keys = {
        *schema["properties"],
        *(key for part in parts for key in schema["$defs"].get(part, {}).get("properties", {})),
    }
    assert [key for key in sorted(keys) if not re.search(rf"`[\w.]*\b{key}\b|\b{key}: ", text)] == []
