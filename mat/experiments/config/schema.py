"""The JSON schema of a scale's YAML, by which editors complete and check it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from mat.experiments.config.plugins import OURS, find, record_of
from mat.experiments.config.scale import ScaleConfig
from mat.settings.strict import Strict, model_of

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema(studies: Mapping[str, type]) -> str:
    """The schema as text; ``studies``: the settings of each block of studies."""
    whole = _schema(ScaleConfig)
    known = whole["$defs"]
    family, method, study = (known.pop(name) for name in ("FamilyBlock", "MethodBlock", "StudyBlock"))
    for kind in OURS:
        known[kind] = {"anyOf": [*(_ours(kind, name) for name in OURS[kind]), _file(kind)]}
    known["FamilyBlock"] = family
    for block, kinds in (("TaskBlock", ("task", "model")), ("ModelShapes", ("model",)), ("FamilyBlock", ("model",))):
        settings = known[block]["properties"]
        for kind in kinds:
            settings[kind] = {
                "$ref": f"#/$defs/{kind}",
                "description": settings[kind].get("description", f"The {kind}."),
            }
    tuned = {"tuned": {**method["properties"].pop("tuned"), "type": "string"}}
    for plugin in known["method"]["anyOf"]:  # a method's settings stand beside what it changes of the task
        plugin["properties"] |= method["properties"]
    about = {"title": "tuned settings", "type": "object", "properties": tuned | method["properties"]}
    known["method"]["anyOf"].append({**about, "required": ["tuned"]})
    known["MethodBlock"] = {"$ref": "#/$defs/method", "description": method["description"]}
    for name, settings in studies.items():
        own = _schema(model_of(settings))
        known[name] = {**study, "additionalProperties": False, "properties": study["properties"] | own["properties"]}
        about = whole["properties"][name]["description"]
        whole["properties"][name] = {"$ref": f"#/$defs/{name}", "description": about}
    return json.dumps({"$schema": DRAFT, **whole}, indent=1, ensure_ascii=False) + "\n"


class _WithoutTitles(GenerateJsonSchema):
    """Fields are not given their own names as titles."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _schema(model: type[Strict]) -> dict[str, Any]:
    return model.model_json_schema(schema_generator=_WithoutTitles)


def _ours(kind: str, name: str) -> dict[str, Any]:
    """The schema of a plug-in of ours."""
    module = find(kind, name)
    settings = _schema(model_of(record_of(kind, module, kind)))
    about = module.__doc__.strip().splitlines()[0]
    return {
        "title": name,
        "description": about,
        "type": "object",
        "properties": {"name": {"const": name, "description": about}, **settings["properties"]},
        "required": ["name", *settings.get("required", [])],
        "additionalProperties": False,
    }


def _file(kind: str) -> dict[str, Any]:
    """The schema of a plug-in in a file of the user's own."""
    about = f"A Python file that is a {kind}, looked for beside the config; its settings stand beside it."
    return {
        "title": f"a {kind} of your own",
        "type": "object",
        "properties": {"file": {"type": "string", "description": about}},
        "required": ["file"],
    }
