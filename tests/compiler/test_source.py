"""Every key path of a TOML file has its line, whatever way it is written."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import source
from compiler.diagnostics import KeyPath
from compiler.source import index, read

EVERYTHING = '''# a comment
[fleet]
name = "lab"   # x = y
note = """
[not.a.header]
k = 1
"""
"quoted = key".b = 3
[[node]] # first
name = "a"
  [[node.device]]
  index = 0
  budget = { vram = 10, kv = 2 }
  [[node.device]]
  index = 1
[[node]]
name = "b"
labels = [
  "x", # c
  "y=z",
]
[node.tuning.deep]
a.b.c = 1
'''


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from paths(inner, (*path, key))


def nearest(found: dict[KeyPath, Any], path: KeyPath) -> Any:
    while path and path not in found:
        path = path[:-1]
    return found.get(path)


def check(text: str) -> None:
    data = tomllib.loads(text)
    found = index(text)
    lines = text.split("\n")
    everything = set(paths(data))
    assert [p for p in everything if nearest(found, p) is None] == [], "a path without a place"
    assert [p for p in found if p not in everything] == [], "a place without a path"
    for path, statement in found.items():
        assert statement.text.split("\n")[0] == lines[statement.line - 1]
        key = next(part for part in reversed(path) if isinstance(part, str))
        assert key in statement.text or json.dumps(key)[1:-1] in statement.text


def test_a_file_with_every_construct_is_indexed_completely() -> None:
    check(EVERYTHING)
    found = index(EVERYTHING)

    assert found["fleet", "quoted = key", "b"].line == 8
    assert found["node", 0, "device", 1, "index"].line == 15
    assert found["node", 1, "tuning", "deep", "a", "b", "c"].line == 23


KEYS = st.one_of(
    st.sampled_from(["a", "b", "name", "1", "x-y"]),
    st.sampled_from(["a = b", "q.r", "sp ace", "#", "]", "[[", "", "é"]).map(
        lambda k: json.dumps(k, ensure_ascii=False)
    ),
)
VALUES = st.sampled_from(
    [
        "1",
        "-2.5",
        "true",
        "1979-05-27",
        '"x = y # ["',
        "'a\"='",
        "[]",
        "[\n  1, # c\n  2\n]",
        "{ k = 1, l = [2, 3] }",
        '"""\n[no]\n a = 1\n"""',
        "'''\n]]\n'''",
        '"\u2028\x85"',
    ]
)
DOTTED = st.lists(KEYS, min_size=1, max_size=3).map(" . ".join)
TAIL = st.sampled_from(["", " # c = 1", "   ", "\t# ]"])
LINES = st.one_of(
    st.tuples(DOTTED, VALUES, TAIL).map(lambda t: f"{t[0]} = {t[1]}{t[2]}"),
    st.tuples(DOTTED, TAIL).map(lambda t: f"[ {t[0]} ]{t[1]}"),
    st.tuples(DOTTED, TAIL).map(lambda t: f"  [[{t[0]}]]{t[1]}"),
    st.sampled_from(["", "# [comment]", "   "]),
)


@given(st.lists(LINES, max_size=12), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=300, deadline=None)
def test_every_path_of_a_random_file_has_its_line(lines: list[str], newline: str) -> None:
    kept: list[str] = []
    for line in lines:  # what contradicts the lines before (a key twice) is left out
        try:
            tomllib.loads("\n".join([*kept, line]))
        except tomllib.TOMLDecodeError:
            continue
        kept.append(line)
    text = "\n".join(kept)

    check(text)
    assert index(text.replace("\n", newline)) == index(text)


@pytest.mark.parametrize(
    ("path", "at", "expected"),
    [
        (("fleet", "name"), "key", (3, 1, 4)),
        (("fleet", "name"), "value", (3, 8, 5)),
        (("fleet", "missing"), "value", (2, 1, 7)),
        (("node", 0, "device", 0, "budget", "kv"), "key", (13, 25, 2)),
        (("node", 0, "device", 0, "budget", "kv"), "value", (13, 30, 1)),
        (("node", 0, "device", 0, "budget", "none"), "value", (13, 12, 21)),
        (("node", 1, "labels", 2), "value", (18, 10, 1)),
        (("node", 1, "labels", 1), "value", (20, 3, 5)),
        (("node", 1), "value", (16, 1, 8)),
        (("nothing",), "value", (1, 1, 1)),
    ],
)
def test_a_span_covers_key_or_value(path: KeyPath, at: Any, expected: tuple[int, int, int]) -> None:
    span = read("f.toml", EVERYTHING).span(path, at)

    assert (span.line, span.column, span.length) == expected


def test_a_large_file_is_indexed_in_reasonable_time() -> None:
    text = "\n".join(f'[[model]]\nname = "m{n}"\nopts = {{ a = 1, b = [1, 2] }}\n' for n in range(1000))

    assert len(index(text)) == 1 + 3 * 1000


@pytest.mark.parametrize("entry", ['  { name = "m", size = 1 },', '  { name = "m" }, # a ] b', '  "m", # "quoted"'])
def test_a_long_list_is_not_read_again_for_each_of_its_lines(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "models = [\n" + f"{entry}\n" * 500 + "]\n"
    read_again = 0

    def counted(chunk: str) -> bool:
        nonlocal read_again
        read_again += len(chunk)
        return parses(chunk)

    parses = source._parses
    monkeypatch.setattr(source, "_parses", counted)

    assert list(index(text)) == [("models",)]
    assert read_again < 4 * len(text)


def test_places_are_not_looked_for_unless_somebody_asks() -> None:
    file = read("f.toml", EVERYTHING)

    assert "statements" not in vars(file)
    assert file.span(("fleet", "name")).line == 3
    assert "statements" in vars(file)


INLINE = st.recursive(
    st.sampled_from(["1", '"a, b"', "'[{'", '"#"', "true", "1979-05-27"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda e: "[" + ", ".join(e) + "]"),
        st.lists(inner, max_size=3).map(lambda e: "[ # x, ]\n" + "".join(f" {v}, # [\n" for v in e) + "]"),
        st.lists(inner, max_size=3).map(
            lambda e: "{" + ", ".join(f'"k, {n}" . x = {v}' for n, v in enumerate(e)) + " }"
        ),
    ),
    max_leaves=8,
)


@given(INLINE)
@settings(max_examples=200, deadline=None)
def test_every_value_inside_another_has_its_place(value: str) -> None:
    try:
        file = read("f.toml", f"v = {value}  # end")
    except tomllib.TOMLDecodeError:  # a list of several lines within a table
        return
    assert file.data is not None
    for path in paths(file.data):
        inner: Any = file.data
        for part in path:
            inner = inner[part]
        if isinstance(inner, dict) and len(path) > 1 and isinstance(path[-1], str):
            continue  # `a` of `a.b = 1` has no value of its own
        span = file.span(path)
        shown = file.lines[span.line - 1][span.column - 1 : span.column - 1 + span.length]
        if "\n" not in value:
            assert tomllib.loads(f"v = {shown}")["v"] == inner
        else:
            assert shown
