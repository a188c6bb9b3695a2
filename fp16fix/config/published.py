"""JSON Schemas of the two YAML files, for editors: made from the models of ``sections`` and ``zoo``, shipped as files beside this one."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from fp16fix.config.sections import Config
from fp16fix.config.zoo import ZooFile

NAMES = {False: "config.json", True: "zoo.json"}
FILE = "fp16fix.schema.json"
"""What ``init`` calls it beside a config."""


def generated(*, zoo: bool) -> str:
    """The schema of a config, or of a zoo, as the models have it now."""
    return json.dumps(declared(zoo=zoo), indent=1, sort_keys=True) + "\n"


def declared(*, zoo: bool) -> dict[str, Any]:
    """The same with its keys in the order in which the models declare them."""
    section, what = (ZooFile, "of many models (fp16fix batch)") if zoo else (Config, "of one model (fp16fix repair --config)")
    found: dict[str, Any] = worded(section.model_json_schema(by_alias=True, mode="validation"))
    found |= {"$schema": GenerateJsonSchema.schema_dialect, "title": f"fp16fix: the YAML {what}"}
    return found


BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""What pydantic leaves in its own words where a validator stands before a bound."""


def worded(schema: Any) -> Any:
    """The same in JSON Schema's words."""
    if isinstance(schema, dict):
        return {BOUNDS.get(key, key) if isinstance(value, (int, float)) else key: worded(value) for key, value in schema.items()}
    return [worded(each) for each in schema] if isinstance(schema, list) else schema


def shipped(*, zoo: bool) -> str:
    """The same from the file that was shipped."""
    return (files("fp16fix.config") / "schema" / NAMES[zoo]).read_text(encoding="utf-8")
