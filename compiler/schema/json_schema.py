"""The schemas as JSON Schema (draft 2020-12), from which editors complete and check TOML as it is typed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from compiler.schema.fleet import FleetFile
from compiler.schema.models import ModelsFile

FILES: dict[str, type[BaseModel]] = {"fleet": FleetFile, "models": ModelsFile}


def json_schema(file: str) -> dict[str, Any]:
    """The schema of ``fleet`` or ``models``: a description for every key, and no null, which TOML does not have."""
    schema = FILES[file].model_json_schema()
    sections = schema.pop("$defs")
    titled = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"{file}.toml"}
    plain = {_plain(name): _clean(section, name) for name, section in sorted(sections.items())}
    whole: dict[str, Any] = _clean(schema, None)
    for table in (whole, *plain.values()):
        for key in table["properties"].values():
            if "$ref" in key:
                key.setdefault("description", plain[key["$ref"].rpartition("/")[2]]["description"])
    return titled | whole | {"$defs": plain}


def _plain(name: str) -> str:
    return name.removesuffix("Section").lower()


def _clean(value: Any, title: str | None) -> Any:
    """Without pydantic's titles and nulls; ``title`` is for a section, None for its keys."""
    if isinstance(value, list):
        return [_clean(item, None) for item in value]
    if not isinstance(value, dict):
        return value
    out = {key: _clean(item, None) for key, item in value.items() if key not in ("title", "properties", "$ref")}
    if "properties" in value:
        out["properties"] = {key: _clean(item, None) | {"title": key} for key, item in value["properties"].items()}
    if "$ref" in value:
        out["$ref"] = "#/$defs/" + _plain(value["$ref"].rpartition("/")[2])
    if title is not None:
        out["title"] = _plain(title)
    # No default of a table: its keys have theirs, and a null among them is not TOML.
    if "default" in out and (out["default"] is None or isinstance(out["default"], dict)):
        del out["default"]
    if "anyOf" in out:
        choices = [choice for choice in out["anyOf"] if choice != {"type": "null"}]
        if len(choices) == 1:
            del out["anyOf"]
            out = choices[0] | out
    return out
