"""Who may import whom: docs/architecture/overview.md, as data."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("cortexd", "neuron", "compiler")

# Package -> the packages of ours that it may import (itself is always allowed). The longest prefix counts.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "cortexd": (),
    "cortexd.resources": (),
    "cortexd.settings": (),
    "cortexd.notify": (),
    "cortexd.credentials": (),
    "cortexd.__main__": ("cortexd.cli",),
    "cortexd.models": (),
    "cortexd.protocol": (),
    "cortexd.artifacts": ("cortexd.protocol",),
    "cortexd.dialects": ("cortexd.protocol",),
    "cortexd.routing": ("cortexd.protocol",),
    "cortexd.residency": ("cortexd.protocol",),
    "cortexd.store": (
        "cortexd.models",
        "cortexd.routing.snapshot",
        "cortexd.residency",
        "cortexd.ledger",
        "cortexd.protocol",
    ),
    "cortexd.ledger": ("cortexd.store", "cortexd.models", "cortexd.protocol"),
    "cortexd.gateway": (
        "cortexd.artifacts",
        "cortexd.protocol",
        "cortexd.dialects",
        "cortexd.routing",
        "cortexd.store",
        "cortexd.ledger",
        "cortexd.settings",
        "cortexd.notify",
        "cortexd.credentials",
    ),
    "cortexd.controller": (
        "cortexd.protocol",
        "cortexd.residency",
        "cortexd.store",
        "cortexd.models",
        "cortexd.settings",
        "cortexd.notify",
        "cortexd.credentials",
    ),
    "cortexd.deploy": ("cortexd.models", "cortexd.store", "cortexd.resources", "cortexd.settings", "compiler"),
    # a neuron's host has neither SQLAlchemy nor the compiler
    "cortexd.deploy.host": (),
    "cortexd.deploy.reach": ("cortexd.deploy.host",),
    "cortexd.discovery": ("compiler",),
    "cortexd.supervisor": ("cortexd.settings",),
    "cortexd.cli": ("cortexd", "compiler", "neuron.artifacts.export"),
    "cortexd.pull": ("cortexd.artifacts",),
    "cortexd.acp": ("cortexd.protocol", "cortexd.dialects"),
    "compiler": ("cortexd.protocol",),
    "compiler.artifacts": ("compiler", "cortexd.artifacts", "cortexd.protocol"),
    "compiler.emit": ("compiler", "cortexd.models", "cortexd.store", "cortexd.resources", "cortexd.protocol"),
    "compiler.emitters": (
        "compiler",
        "cortexd.artifacts",
        "cortexd.models",
        "cortexd.store",
        "cortexd.resources",
        "cortexd.protocol",
    ),
    "compiler.pipeline": ("compiler", "cortexd.models", "cortexd.store", "cortexd.resources", "cortexd.protocol"),
    "neuron": (
        "cortexd.protocol",
        "cortexd.dialects",
        "cortexd.notify",
        "cortexd.credentials",
        "cortexd.artifacts",
    ),
    "neuron.engine": ("cortexd.protocol", "neuron.session.base"),
    "neuron.session": ("cortexd.protocol",),
    "neuron.device": ("cortexd.protocol", "neuron.engine", "neuron.session"),
    "neuron.artifacts": ("cortexd.protocol", "cortexd.artifacts"),
}

# Third-party module -> the only packages that may import it.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("neuron.session", "neuron.artifacts.export"),
    "torch": ("neuron.artifacts.export",),
    "transformers": ("neuron.artifacts.export",),
    "optimum": ("neuron.artifacts.export",),
    "llguidance": ("neuron.engine.grammar",),
    "pynvml": ("neuron.device.probe",),
    "gevent": ("cortexd.gateway", "cortexd.ledger"),
    "falcon": ("cortexd.gateway", "neuron.http"),
    "huggingface_hub": ("cortexd.pull",),
    "requests": ("cortexd.pull",),
    "acp": ("cortexd.acp",),
    "yaml": ("compiler.importers",),
    "jinja2": ("compiler.emit", "compiler.emitters", "neuron.artifacts"),
    "alembic": ("cortexd.deploy", "cortexd.cli"),
    "sqlalchemy": (
        "cortexd.models",
        "cortexd.store",
        "cortexd.ledger",
        "cortexd.gateway",
        "cortexd.controller",
        "cortexd.deploy",
        "cortexd.settings",
        "cortexd.cli",
        "compiler.emit",
        "compiler.emitters",
    ),
}

# Packages that see no clock, socket, disk or thread: time and data are arguments.
PURE = (
    "cortexd.protocol",
    "cortexd.dialects",
    "cortexd.routing",
    "cortexd.residency",
    "cortexd.acp.answer",
    "cortexd.acp.compact",
    "cortexd.acp.hermes",
    "neuron.engine",
    "compiler.parse",
    "compiler.validate",
    "compiler.messages",
    "compiler.unenforced",
    "compiler.overrides",
    "compiler.source",
    "compiler.inline",
    "compiler.resolve",
    "compiler.references",
    "compiler.served",
    "compiler.place",
    "compiler.plan",
    "compiler.importers",
)
IMPURE_MODULES = {
    "socket",
    "threading",
    "subprocess",
    "asyncio",
    "os",
    "shutil",
    "tempfile",
    "sqlite3",
    "time",
    "requests",
    "httpx",
}


def modules() -> list[tuple[str, Path]]:
    found = []
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def under(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def rule_for(module: str) -> str:
    return max((p for p in MAY_IMPORT if under(module, p)), key=len)


def imports(path: Path) -> list[str]:
    """Absolute names of every import, deferred ones included; those for type checkers alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found: list[str] = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            base = node.module or ""
            found += [f"{base}.{alias.name}" if is_module(f"{base}.{alias.name}") else base for alias in node.names]
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return name.split(".")[0] in OURS and (path.with_suffix(".py").exists() or (path / "__init__.py").exists())


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda v: v if isinstance(v, str) else "")
def test_a_module_imports_only_what_its_package_may(module: str, path: Path) -> None:
    rule = rule_for(module)
    for name in imports(path):
        top = name.split(".")[0]
        if top in OURS:
            # the version, and nothing else, may be read from everywhere
            allowed = name == "cortexd" or any(under(name, p) for p in (rule, *MAY_IMPORT[rule]))
            assert allowed, f"{module} may not import {name} (rule of {rule})"
        elif top in ONLY_IN:
            assert any(under(module, p) for p in ONLY_IN[top]), f"{module} may not import {top}"
        if any(under(module, p) for p in PURE):
            assert top not in IMPURE_MODULES, f"{module} is pure and may not import {top}"


def test_every_file_of_ours_stays_readable_in_size() -> None:
    long = {
        str(p.relative_to(ROOT)): n
        for _, p in modules()
        if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400
    }

    assert long == {}


def test_the_table_would_catch_a_forbidden_import(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import onnxruntime\nfrom cortexd.store import connect\n")

    assert imports(bad) == ["onnxruntime", "cortexd.store.connect"]
    assert not any(under("cortexd.store.connect", p) for p in MAY_IMPORT["cortexd.protocol"])
