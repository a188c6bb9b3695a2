"""The JSON Schemas → a page of every key: its type, default and meaning, in the order of declaration, for one key explains the next."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from fp16fix.config.published import declared

Schema = dict[str, Any]
UNBOUNDED = 10**9
"""An upper bound from here on is what a machine word or a clock holds, nothing that a reader must know."""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
PLAIN = {"boolean": "true or false", "null": "null", "number": "number", "integer": "integer", "string": "text"}
HEADS = {
    False: """# YAML of one model

`fp16fix repair --config config.yaml`; `fp16fix init` writes one to begin with, and [four examples](configs.md) are commented. Relative paths
start from the folder of the file, flags win over what stands in it, and `--set build.tf32=false` gives any key by flag. From Python, keys are
keywords. An editor that knows the schema (`fp16fix schema`) completes them: this page is made of that schema.
""",
    True: """# YAML of many models

`fp16fix batch zoo.yaml`; [batches](../notes/zoo.md) are described at length, and [an example](configs.md) is commented. This page is made of the
schema that `fp16fix schema --zoo` prints.
""",
}


def reference(*, zoo: bool) -> str:
    """The page, of a zoo or of a config."""
    schema = declared(zoo=zoo)
    known = declared(zoo=False)["properties"] if zoo else {}
    return "\n".join([HEADS[zoo], *sections(schema, schema, "", known, {})])


def sections(whole: Schema, part: Schema, path: str, known: Schema, told: dict[str, str]) -> Iterator[str]:
    """The keys of one mapping, then each mapping below it.

    Args:
        whole: the schema, for references.
        part: the mapping.
        path: of its keys, ``build.``; empty at the top.
        known: keys of the same meaning that another page describes, by name; they are linked, not repeated.
        told: mappings that this page has, by title, and where; this one is added.
    """
    keys: Schema = part["properties"]
    name = f"`{path.rstrip('.')}`"
    if part["title"] in told:
        yield f"## {name}\n\nThe same keys as {told[part['title']]}.\n"
        return
    told[part["title"]] = name
    repeated = [key for key in keys if path and key in known]
    yield f"## {name}\n\n{worded(part['description'])}\n" if path else "## Top level\n"
    if repeated:
        yield f"Every key of [one model's YAML](yaml.md): {', '.join(f'{{confval}}`{key}`' for key in repeated)}.\n"
    below = []
    for key, value in keys.items():
        if key in repeated:
            continue
        inner = [(f"{path}{key}{suffix}.", mapping) for suffix, mapping in mappings(whole, value)]
        below += inner
        said = worded(
            value.get("description") or " ".join(mapping["description"] for _, mapping in inner) or resolved(whole, value)["description"]
        )
        must = ", required" if key in part.get("required", ()) else ""
        default = f":default: `{json.dumps(value['default'])}`\n" if "default" in value and not inner else ""
        yield f"```{{confval}} {path}{key}\n:type: {typed(whole, value)}{must}\n{default}\n{said}\n```\n"
    for deeper, mapping in below:
        yield from sections(whole, mapping, deeper, known, told)


def mappings(whole: Schema, value: Schema) -> Iterator[tuple[str, Schema]]:
    """Mappings with keys of their own that a value is or holds, with what stands between its name and theirs: ``[]`` or ``.NAME``."""
    value = resolved(whole, value)
    if "properties" in value:
        yield "", value
    for each in value.get("anyOf", ()):
        yield from mappings(whole, each)
    for suffix, key in (("[]", "items"), (".NAME", "additionalProperties")):
        if isinstance(value.get(key), dict):
            yield from ((suffix + rest, found) for rest, found in mappings(whole, value[key]))


def typed(whole: Schema, value: Schema) -> str:
    """A type in words: ``integer ≥ 0``, ``list of paths``."""
    value = resolved(whole, value)
    if "anyOf" in value:
        listed = {typed(whole, each["items"]) for each in value["anyOf"] if "items" in each}
        either = [typed(whole, each) for each in value["anyOf"] if each.get("type") != "array" or typed(whole, each["items"]) not in listed]
        return " or ".join(dict.fromkeys([*either, *("a list of such" for _ in listed)]))
    if "enum" in value:
        return " or ".join(f"`{each}`" for each in value["enum"])
    if "properties" in value:
        return "mapping, see below"
    match value["type"]:
        case "array":
            return (
                f"list of {typed(whole, value['items'])}"
                if "items" in value
                else " and ".join(typed(whole, each) for each in value["prefixItems"])
            )
        case "object":
            return f"mapping of names to {typed(whole, value['additionalProperties'])}"
        case "string" if "pattern" in value:
            return "text such as `1x3x224x224`"
        case "string" if value.get("format") == "path":
            return "path"
        case kind:
            bounds = [f"{sign} {value[key]:g}" for key, sign in BOUNDS.items() if key in value and value[key] < UNBOUNDED]
            return " ".join([PLAIN[kind], " and ".join(bounds)]).strip()


def resolved(whole: Schema, value: Schema) -> Schema:
    """What a reference stands for."""
    return whole["$defs"][value["$ref"].rpartition("/")[2]] if "$ref" in value else value


def worded(description: str) -> str:
    """A docstring as Markdown, in YAML's words."""
    return re.sub(r"\bNone\b", "`null`", " ".join(description.split()))
