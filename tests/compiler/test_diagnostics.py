"""How findings are shown."""

from __future__ import annotations

import pytest

from compiler.diagnostics import Diagnostic, Span, did_you_mean, render_text


def shown(line: str, column: int, length: int, file: str = "f.toml") -> list[str]:
    found = Diagnostic("CX999", "error", "wrong", Span(file, 1, column, length))
    return render_text([found], {file: [line]}).splitlines()[1:3]


@pytest.mark.parametrize(
    ("line", "column", "carets"),
    [("a = 1", 5, "    ^"), ("\ta = 1", 6, "\t    ^"), ("日本 = 1", 6, "       ^"), ("e\u0301 = 1", 6, "    ^")],
)
def test_the_caret_stands_where_it_should_on_a_terminal(line: str, column: int, carets: str) -> None:
    assert shown(line, column, 1) == [f"    1 | {line}", f"      | {carets}"]


def test_of_a_very_long_line_the_part_around_the_finding_is_shown() -> None:
    excerpt, carets = shown("x" * 1000 + "NO" + "y" * 1000, 1001, 2)

    assert len(excerpt) < 180 and excerpt[8] == excerpt[-1] == "…"
    assert [excerpt[n] for n, c in enumerate(carets) if c == "^"] == ["N", "O"]


@pytest.mark.parametrize(
    "line",
    [
        'secret = "hunter2"',
        'api-key = "hunter2"',
        'apikey="hunter2"',
        "{ id = 'a', key = 'hunter2' }",
        'url = "postgresql+psycopg://me:hunter2@db/x"',
        'endpoint = "http://me:hunter2@host:1"',
        '"password" = "hunter2"',
        'bearer = "hunter2"',
    ],
)
def test_what_may_be_a_secret_is_not_shown(line: str) -> None:
    excerpt, carets = shown(line, len(line) - 3, 3)

    assert "hunter2" not in excerpt and "…" in excerpt
    assert "^" in carets


def test_the_value_of_a_variable_that_nobody_knows_is_not_shown() -> None:
    assert shown("CORTEXD_KEYS__X__Y=hunter2", 1, 18, "$CORTEXD_KEYS__X__Y")[0] == "    1 | CORTEXD_KEYS__X__Y=…"


def test_one_of_thousands_of_names_is_still_found() -> None:
    names = [f"node-{n:04}" for n in range(5000)]

    assert did_you_mean("nod-4321", names) == "did you mean `node-4321`?"
    assert did_you_mean("nodw-4321", names) == "did you mean `node-4321`?"
    assert did_you_mean("something else", names) is None
