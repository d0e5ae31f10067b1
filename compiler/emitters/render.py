"""The Jinja environment of all emitters, and values as TOML."""

from __future__ import annotations

import functools
import json
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cortexd.resources import resource


@functools.cache
def _environment() -> Environment:
    # No HTML is made here, and TOML values go through `toml`, which quotes them.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(resource("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters["toml"] = toml_value
    environment.filters["json"] = functools.partial(json.dumps, ensure_ascii=False)
    return environment


def render(template: str, **values: Any) -> bytes:
    """The template of that name below ``templates``, in UTF-8. A value that it names and does not get is an error."""
    return _environment().get_template(template).render(**values).encode("utf-8")


def json_bytes(value: object) -> bytes:
    """Indented JSON with a newline at its end; keys stay in their order."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def toml_value(value: object) -> str:
    """A TOML literal for text, numbers, booleans, and lists and tables of these."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    raise TypeError(f"no TOML literal for {type(value).__name__}")
