"""Findings as SARIF 2.1.0, which code hosts and editors show beside the lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from compiler.codes import CODES
from compiler.diagnostics import Diagnostic, path_text

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
PAGE = "docs/reference/diagnostics.md"


def as_sarif(diagnostics: Sequence[Diagnostic], version: str) -> dict[str, Any]:
    """One run of ``cortexd compile`` of that version. Paths are relative to where it ran, as they were given."""
    rules = [
        {
            "id": code,
            "shortDescription": {"text": title[0].upper() + title[1:]},
            "help": {
                "text": f"{code}: {title}. See {PAGE}#{code.lower()}",
                "markdown": f"[{code}]({PAGE}#{code.lower()}): {title}",
            },
        }
        for code, title in CODES.items()
    ]
    index = {code: n for n, code in enumerate(CODES)}
    driver = {"name": "cortexd compile", "version": version, "semanticVersion": version, "rules": rules}
    results = [_result(d, index[d.code]) for d in sorted(diagnostics, key=lambda d: d.order)]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(d: Diagnostic, rule: int) -> dict[str, Any]:
    text = f"{d.message} (hint: {d.hint})" if d.hint else d.message
    location: dict[str, Any] = {}
    if not d.span.file.startswith("$"):
        location["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(d.span.file)},
            "region": {
                "startLine": d.span.line,
                "startColumn": d.span.column,
                "endColumn": d.span.column + d.span.length,
            },
        }
    logical = [{"fullyQualifiedName": path_text(d.path), "kind": "member"}] if d.path else []
    if d.span.file.startswith("$"):
        logical.append({"name": d.span.file[1:], "kind": "variable"})
    if logical:
        location["logicalLocations"] = logical
    return {
        "ruleId": d.code,
        "ruleIndex": rule,
        "level": d.severity,
        "message": {"text": text},
        "locations": [location],
    }


def _uri(file: str) -> str:
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
