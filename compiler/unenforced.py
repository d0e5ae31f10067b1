"""Keys that are recorded and that no program acts on yet: none of them is silent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from compiler import codes
from compiler.diagnostics import Diagnostic, KeyPath
from compiler.source import Source

_LIMITS = {
    "hard_cap": "is recorded, but tokens are not counted against it yet",
    "window": "is recorded, but no tokens are counted in it yet",
    "requests_per_minute": "is recorded, but requests are not counted against it yet",
    "tokens_per_minute": "is recorded, but tokens are not counted against it yet",
    "max_concurrent": "is recorded, but requests are not counted against it yet",
}
# Table -> key -> what is (not) done with it.
UNENFORCED: dict[str, dict[str, str]] = {
    "accounts": _LIMITS,
    "keys": _LIMITS,
    "models": {
        "min_devices": "above 1 is proven, but a neuron cannot load a replica over several devices yet",
        "cost": "is shown by the catalogue, but no report multiplies by it yet",
    },
}


def warnings(table: str, entries: Sequence[tuple[KeyPath, BaseModel]], source: Source) -> Iterable[Diagnostic]:
    """One for each such key that is set, at the first entry that sets it."""
    for key, text in UNENFORCED[table].items():
        paths = [path for path, entry in entries if _is_set(entry, key)]
        if not paths:
            continue
        at = (*paths[0], key)
        more = len(paths) - 1
        others = f"; {more} more of [[{table}]] {'has' if more == 1 else 'have'} it too" if more else ""
        message = f"`{key}` {text}{others}"
        hint = "leave it out to be rid of this warning"
        yield Diagnostic(codes.NOT_YET, "warning", message, source.span(at), at, hint)


def _is_set(entry: BaseModel, key: str) -> bool:
    value = getattr(entry, key)
    return key in entry.model_fields_set and value is not None and (key != "min_devices" or value > 1)
