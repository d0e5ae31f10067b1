"""Between phases 1 and 2: variables of the environment that stand for values of fleet.toml. Pure.

``CORTEXD_GATEWAY__LISTEN`` is ``listen`` of ``[gateway]``; entries of a list are called by their name, as in
``CORTEXD_NEURONS__LOCAL__ENDPOINT``. Case does not matter, and ``_`` stands for ``.`` and ``-`` too. What has no ``__``
is a setting of a program, not of the fleet, and none of ours.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compiler import codes
from compiler.diagnostics import Diagnostic, KeyPath, did_you_mean
from compiler.schema.fleet import FleetFile
from compiler.schema.shape import NAMED, is_list_of_tables, is_text, keys_at
from compiler.source import Source, Variable

PREFIX = "CORTEXD_"


def variables(environment: Mapping[str, str]) -> list[Variable]:
    """Those that mean to override something, sorted."""
    mine = sorted(name for name in environment if name.startswith(PREFIX) and "__" in name)
    return [Variable(name, environment[name]) for name in mine]


def override(source: Source, environment: Mapping[str, str]) -> tuple[Source, list[Diagnostic]]:
    """The file as the environment changes it, and the variables that change nothing."""
    mine = variables(environment)
    if not mine or source.data is None:
        return source, []
    data = copy.deepcopy(dict(source.data))
    taken: dict[KeyPath, Variable] = {}
    found: list[Diagnostic] = []
    for variable in mine:
        path, problem = _path(variable, data)
        if path is None:
            found += problem
        elif path in taken:
            message = f"{variable.name} and {taken[path].name} are the same key"
            hint = "leave one of them out"
            found.append(Diagnostic(codes.DUPLICATE, "error", message, variable.span("key"), path, hint))
        elif _put(data, path, _value(path, variable.value)):
            taken[path] = variable
    return replace(source, data=data, variables=taken), found


def _path(variable: Variable, data: Mapping[str, Any]) -> tuple[KeyPath | None, list[Diagnostic]]:
    """The key that a variable names, or what is wrong with its name."""
    path: KeyPath = ()
    so_far = PREFIX
    here: Any = data
    words = variable.name[len(PREFIX) :].split("__")
    for n, word in enumerate(words):
        if path and isinstance(path[-1], str) and is_list_of_tables(FleetFile, path):
            entries = here if isinstance(here, list) else []
            names: dict[str, str | int] = {
                _written(e.get(NAMED[path[-1]])): n for n, e in enumerate(entries) if isinstance(e, dict)
            }
            step: str | int | None = names.get(word.upper())
            what = f"no [[{path[-1]}]] of that name"
        else:
            names = {_written(known): known for known in keys_at(FleetFile, path)}
            step = names.get(word.upper())
            table = ".".join(str(part) for part in path if isinstance(part, str))
            what = f"no such key in [{table}]" if table else "no such table in fleet.toml"
        if step is None:
            rest = "".join(f"__{other}" for other in words[n + 1 :])
            hint = did_you_mean(so_far + word.upper() + rest, [so_far + known + rest for known in names])
            message = f"{variable.name} overrides nothing: there is {what}"
            return None, [Diagnostic(codes.UNKNOWN_KEY, "error", message, variable.span("key"), (), hint)]
        path += (step,)
        so_far += word.upper() + "__"
        here = _inside(here, step)
    if isinstance(path[-1], int):
        message = f"{variable.name} names an entry; a variable can override a key of it"
        known = [so_far + _written(key) for key in keys_at(FleetFile, path)]
        hint = f"as in {known[0]}" if known else None
        return None, [Diagnostic(codes.UNKNOWN_KEY, "error", message, variable.span("key"), (), hint)]
    return path, []


def _written(name: object) -> str:
    """A name as a variable can write it."""
    return str(name).upper().replace("-", "_").replace(".", "_")


def _inside(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(str(step))
    return value[step] if isinstance(value, list) and isinstance(step, int) else None


def _put(data: dict[str, Any], path: KeyPath, value: object) -> bool:
    """Set a value, creating tables on the way; False where the file has something else than a table."""
    here: Any = data
    for step in path[:-1]:
        here = here.setdefault(step, {}) if isinstance(here, dict) else here[step]
        if not isinstance(here, dict | list):
            return False
    if not isinstance(here, dict):
        return False
    here[str(path[-1])] = value
    return True


def _value(path: KeyPath, text: str) -> object:
    """A value of TOML, or the text itself. Where only text may stand, a number is text as well."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    value = parsed["value"]
    if len(parsed) > 1 or (is_text(FleetFile, path) and not isinstance(value, str)):
        return text
    return value
