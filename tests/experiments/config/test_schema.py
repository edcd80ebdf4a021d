"""The JSON schema of a scale's YAML: current, complete, and true of the configs that there are."""

import json
from pathlib import Path

import jsonschema
import pytest

from mat.experiments.cli.commands.step import schema_text
from mat.settings.yaml_file import read_yaml

ROOT = Path(__file__).parents[3]
FILE = ROOT / "workflows/schemas/scale.schema.json"
CONFIGS = sorted((ROOT / "workflows/config").glob("*.yaml"))


@pytest.fixture(scope="module")
def schema():
    return json.loads(FILE.read_text(encoding="utf-8"))


def settings(node, place=""):
    """Every setting of a schema: where it is, what is said of it, and whether it must be given."""
    if isinstance(node, list):
        for number, item in enumerate(node):
            yield from settings(item, f"{place}/{number}")
    elif isinstance(node, dict):
        for name, found in node["properties"].items() if "type" in node and "properties" in node else ():
            yield f"{place}/{name}", found, name in node.get("required", ())
        for name, item in node.items():
            yield from settings(item, f"{place}/{name}")


def test_the_committed_schema_is_that_of_the_code():
    assert FILE.read_text(encoding="utf-8") == schema_text(), (
        "write it again: python -m mat step schema --out workflows/schemas/scale.schema.json"
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_configs_of_the_repository_fit_and_name_it(path, schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(read_yaml(path))) == []
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../schemas/scale.schema.json"


@pytest.mark.parametrize(
    "change",
    [
        {"task": {"name": "digits", "shfit": 1}},
        {"task": {"name": "digits", "shift": "one"}},
        {"model": {"name": "alexnet"}},
        {"recipe": {"learning_rate": 1}},
    ],
)
def test_what_the_reading_refuses_does_not_fit_either(change, schema):
    config = read_yaml(ROOT / "workflows/config/demo.yaml")
    config["tasks"]["digits"] |= change
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(config))


def test_every_setting_has_a_description_and_a_default(schema):
    found = list(settings(schema))
    assert len(found) > 200
    assert [place for place, said, _ in found if not said.get("description")] == []
    assert [
        place
        for place, said, needed in found
        if not needed and "$ref" not in said and "default" not in said and "const" not in said
    ] == []
