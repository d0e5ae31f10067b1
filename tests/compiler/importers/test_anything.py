"""Whatever is given to an importer: two files that parse, or one line that says what is wrong and where."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.importers.draft import toml_key, toml_value
from compiler.importers.run import Imported, run
from compiler.importers.settle import _refused
from compiler.importers.tree import ImportFailed

SECRET = "zq9-never-shown-8v"
NAMES = ["Qwen/Qwen3-8B", "openai/x", "ollama/y", "http://gpu:80/v1", "http://[::1]:5", "a b", "", "*", "sk-12345678"]
LINES = [
    "os.environ/KEY",
    "${env.K}",
    "llama-server -m a.gguf -c 1e9 -np 0",
    "vllm serve a/b --temp nan",
    "${a}",
    "é\x00",
]
WORDS = st.sampled_from(NAMES + LINES)
SCALARS = st.one_of(
    WORDS,
    st.text(max_size=12),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.booleans(),
    st.none(),
)
KEYS = {
    "helexa": "gateway listen metrics_listen eviction strategy neurons nodes name endpoint vram_mb models id harness"
    " quant pinned_on limit context cost input aliases entitlements keys key account_id window kind port default_models"
    " model_id devices harnesses require_auth hard_cap",
    "litellm": "model_list model_name litellm_params model api_base api_key rpm temperature model_info mode"
    " input_cost_per_token max_input_tokens router_settings fallbacks model_group_alias general_settings master_key"
    " litellm_settings environment_variables hidden",
    "llama-swap": "models cmd ttl aliases filters setParams temperature groups members persistent hooks on_startup"
    " preload macros apiKeys healthCheckTimeout globalTTL proxy useModelName env id a b",
}


def trees(kind: str) -> st.SearchStrategy[Any]:
    keys = st.one_of(st.sampled_from(KEYS[kind].split()), st.text(max_size=6))
    inner = st.recursive(
        SCALARS, lambda child: st.lists(child, max_size=3) | st.dictionaries(keys, child, max_size=5), max_leaves=25
    )
    return st.dictionaries(keys, inner, max_size=6)


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_none(v) for k, v in value.items() if v is not None}
    return [without_none(v) for v in value if v is not None] if isinstance(value, list) else value


def as_text(kind: str, tree: Any) -> str:
    if kind == "helexa":
        return "".join(f"{toml_key(k)} = {toml_value(v)}\n" for k, v in without_none(tree).items())
    return str(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False))


def check(kind: str, text: str) -> Imported | None:
    try:
        done = run(kind, [("given", text)])
    except ImportFailed as e:
        assert re.match(r"given(:\d+)?: ", str(e)), e
        assert "\n" not in str(e)
        return None
    tomllib.loads(done.fleet)
    tomllib.loads(done.models)
    assert _refused(done.fleet, done.models) == []
    return done


@pytest.mark.parametrize("kind", sorted(KEYS))
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_random_structures_never_give_a_traceback(kind: str, data: st.DataObject) -> None:
    check(kind, as_text(kind, data.draw(trees(kind))))


SAMPLES = Path(__file__).parent / "samples"


def sample(kind: str) -> Any:
    if kind == "helexa":
        texts = [(SAMPLES / kind / name).read_text() for name in ("cortex.toml", "models.toml")]
        return tomllib.loads(texts[0]) | tomllib.loads(texts[1])
    return yaml.safe_load((SAMPLES / kind / "config.yaml").read_text())


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(child, (*path, key))


@pytest.mark.parametrize("kind", sorted(KEYS))
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_configuration_with_values_replaced_never_gives_a_traceback(kind: str, data: st.DataObject) -> None:
    tree = copy.deepcopy(sample(kind))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(sorted(places(tree), key=repr)))
        holder = tree
        for part in way:
            holder = holder[part]
        holder[last] = data.draw(SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(WORDS, SCALARS, max_size=2))

    check(kind, as_text(kind, tree))


@pytest.mark.parametrize("kind", sorted(KEYS))
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80))
def test_random_text_never_gives_a_traceback(kind: str, text: str) -> None:
    check(kind, text)


SHAPES = {
    "helexa": {"neurons": [{"name": "a", "endpoint": "http://a:1"}], "models": []},
    "litellm": {"model_list": [{"model_name": "m", "litellm_params": {"model": "ollama/m"}}]},
    "llama-swap": {"models": {"m": {"cmd": "llama-server -m m.gguf"}}},
}
HOLDERS = ("api_key", "apiKeys", "key", "password", "bearer", "token", "secret", "master_key", "webhook_url", "dsn")


@pytest.mark.parametrize("kind", sorted(KEYS))
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("form", ["text", "list", "table"])
def test_a_secret_is_shown_nowhere_whatever_holds_it(kind: str, holder: str, form: str) -> None:
    value = {"text": SECRET, "list": [SECRET], "table": {"value": [SECRET]}}[form]
    tree: dict[str, Any] = SHAPES[kind] | {"section": {"deeper": {holder: value}}, holder: value}
    try:
        done = run(kind, [("given", as_text(kind, tree))])
    except ImportFailed as e:
        assert SECRET not in str(e)
        return

    assert SECRET not in done.fleet + done.models + "".join(f"{n}{n.as_json()}" for n in done.notes)


def bomb() -> str:
    lines = ["models: {}", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("models: [a", "given:1", "not YAML"),
        ("models:\n\t- a", "given:2", "not YAML"),
        ("models: &m\n  a: *m", "given:1", "an anchor that contains itself"),
        ("models:\n  - &m [*m]", "given:2", "an anchor that contains itself"),
        ("a: 1\nmodels: 7", "given:2", "models must be keys with values below it, not a number"),
        ("models:\n  m:\n    aliases: x", "given:3", "models.m.aliases must be a list, not text"),
        ("models:\n  m:\n    cmd: [x]", "given:3", "models.m.cmd must be text, not a list"),
        ("- a", "given:1", "the file must be keys with values below it, not a list"),
        ("models: {}\nmodels: {}", "given:2", "stands here for the second time"),
        ("a: *nowhere", "given:1", "not YAML"),
        ("a: !!int x", "given:1", "not a value of the kind int"),
        ("? [a]\n: b", "given:1", "a key must be text"),
        ("<<: 3", "given:1", "<< merges mappings"),
        ("a: 1\n---\nb: 2", "given:2", "not YAML"),
        ('a: "\\ud800"', "given:1", "not YAML"),
        ("a: b\n\x01", "given:2", "a character that it does not allow"),
        ("", "given:1", "there are no models in it"),
        ("[" * 5000, "given:1", "nested too deeply"),
        (bomb(), "given:", "anchors that repeat each other"),
    ],
)
def test_what_is_no_configuration_is_one_line_with_its_place(text: str, where: str, what: str) -> None:
    with pytest.raises(ImportFailed) as caught:
        run("llama-swap", [("given", text)])

    assert str(caught.value).startswith(where)
    assert what in str(caught.value) or (what == "not YAML" and "surrogate" in str(caught.value))


def test_nothing_in_yaml_is_run() -> None:
    done = check("llama-swap", "models: {}\nx: !!python/object/apply:os.system ['echo hello']\n")

    assert done is not None


def test_merged_mappings_are_read_as_yaml_means_them() -> None:
    text = "macros: &m {a: one}\nmodels:\n  x:\n    <<: {cmd: llama-server -c 512, ttl: 5}\n    ttl: 7\n"
    done = check("llama-swap", text)

    assert done is not None
    model = tomllib.loads(done.models)["models"][0]
    assert (model["context"], model["idle_ttl_s"]) == (512, 7)


def test_macros_that_contain_each_other_end() -> None:
    done = check("llama-swap", 'macros: {a: "${b} ${b}", b: "${a} ${a}"}\nmodels: {m: {cmd: "${a} -c 5"}}\n')

    assert done is not None
