"""Real-looking configurations of each kind: what is carried over, what is told, what is hidden."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from compiler.diagnostics import Diagnostic
from compiler.importers.run import Imported, run
from compiler.pipeline import compile_files

SAMPLES = Path(__file__).parent / "samples"
FILES = {
    "helexa": ("cortex.toml", "models.toml", "Beast.toml"),
    "litellm": ("config.yaml",),
    "llama-swap": ("config.yaml",),
}
SECRETS = [
    *("hx-5d1c0ffee5d1c0ffee", "mesh-bearer-9f8e7d"),
    *("sk-local-7f3a9b2c4d", "sk-ant-REALSECRET0123456789", "hunter2hunter2", "verysecretcache", "dbpassword"),
    *("sk-master-literal-000111", "lf-secret-abcdef"),
    *("sk-swap-literal-123456", "hf_abcdefghijklmnop", "sk-vllm-000999"),
]
KINDS = pytest.mark.parametrize("kind", sorted(FILES))


def imported(kind: str) -> Imported:
    return run(kind, [(name, (SAMPLES / kind / name).read_text()) for name in FILES[kind]])


def findings(done: Imported, folder: Path) -> list[Diagnostic]:
    (folder / "fleet.toml").write_text(done.fleet)
    (folder / "models.toml").write_text(done.models)
    outcome = compile_files(folder / "fleet.toml", folder / "models.toml", folder / "build")
    return [d for d in outcome.diagnostics if d.severity == "error"]


@KINDS
def test_the_compiler_finds_nothing_wrong_but_what_is_left_to_people(kind: str, tmp_path: Path) -> None:
    found = findings(imported(kind), tmp_path)

    assert found, "devices are never known, so there is always something"
    assert {d.path[-1] for d in found} <= {"devices", "source"}


@KINDS
def test_what_is_missing_is_named_beside_where_it_belongs(kind: str, tmp_path: Path) -> None:
    done = imported(kind)
    texts = {"fleet.toml": done.fleet.split("\n\n"), "models.toml": done.models.split("\n\n")}

    for d in findings(done, tmp_path):
        name = Path(d.span.file).name
        entries = [block for block in texts[name] if block.startswith(f"[[{d.path[0]}]]")]
        block = entries[int(d.path[1])]
        assert "# to do:" in block or "hf:" in block, block


@KINDS
def test_once_people_have_filled_in_what_they_are_asked_for_it_compiles(kind: str, tmp_path: Path) -> None:
    done = imported(kind)
    fleet = re.sub(r"^# (devices = )", r"\1", done.fleet, flags=re.MULTILINE)
    blocks = []
    for block in done.models.split("\n\n"):
        if block.startswith("[[models]]"):
            lines = [x for x in block.splitlines() if not re.match("(source|precision|context|limit.input) = ", x)]
            lines.append(
                'source = "builtin:tiny-embed"' if 'task = "embed"' in lines else 'source = "builtin:tiny-chat"'
            )
            block = "\n".join(lines)
        blocks.append(block)

    assert findings(Imported(fleet, "\n\n".join(blocks), ()), tmp_path) == []


@KINDS
def test_no_secret_is_copied_nor_told(kind: str) -> None:
    done = imported(kind)
    everything = done.fleet + done.models + "".join(str(n.as_json()) + str(n) for n in done.notes)
    original = "".join((SAMPLES / kind / name).read_text() for name in FILES[kind])

    assert any(secret in original for secret in SECRETS)
    assert [secret for secret in SECRETS if secret in everything] == []


@KINDS
def test_the_same_files_give_the_same_bytes(kind: str) -> None:
    assert imported(kind) == imported(kind)


@KINDS
def test_every_note_names_a_line_of_the_original(kind: str) -> None:
    for note in imported(kind).notes:
        lines = (SAMPLES / kind / note.file).read_text().splitlines()
        assert 1 <= note.line <= len(lines), note
        assert lines[note.line - 1].strip(), note


def test_helexa_keeps_its_neurons_models_and_aliases() -> None:
    done = imported("helexa")
    fleet, models = tomllib.loads(done.fleet), tomllib.loads(done.models)

    assert fleet["eviction"] == {"strategy": "lru", "defrag_after_cycles": 50}
    (key,) = fleet["keys"]
    assert key == {
        "id": "laptop",
        "account": "team-blue",
        "secret_env": "CORTEXD_KEY_LAPTOP",
        "hard_cap": 5000000,
        "window": {"kind": "rolling", "seconds": 86400},
    }
    assert fleet["gateway"] == {
        "listen": "0.0.0.0:31313",
        "metrics_listen": "127.0.0.1:31314",
        "require_auth": True,
    }
    assert [(n["name"], n["endpoint"]) for n in fleet["neurons"]] == [
        ("beast", "http://beast.lan:13131"),
        ("quad", "http://10.0.0.7:13131"),
    ]
    assert [h["name"] for h in fleet["hosts"]] == ["here", "beast", "10.0.0.7"]
    big, small, house = models["models"]
    assert (big["id"], big["pinned_on"], big["residency_priority"]) == ("Qwen/Qwen3-8B-GGUF", ["beast"], 200)
    assert (big["context"], big["limit"], big["precision"]) == (32768, {"output": 4096}, "int4")
    assert (big["source"], big["cost"]) == (
        "hf:Qwen/Qwen3-8B@main",
        {"input": 0.2, "output": 0.6, "cached": 0.02},
    )
    assert small["min_device_vram_mb"] == 4000
    assert "source" not in house
    assert models["aliases"] == {"default": "Qwen/Qwen3-0.6B", "big": "Qwen/Qwen3-8B-GGUF"}


def test_litellm_keeps_models_on_own_machines_and_comments_the_others_out() -> None:
    done = imported("litellm")
    fleet, models = tomllib.loads(done.fleet), tomllib.loads(done.models)

    assert [m["id"] for m in models["models"]] == ["qwen-big", "local-llama", "embedder"]
    assert [m["task"] for m in models["models"]] == ["chat", "chat", "embed"]
    big = models["models"][0]
    assert (big["source"], big["sampling"]) == ("hf:Qwen/Qwen3-32B@main", {"temperature": 0.6})
    assert (big["cost"], big["limit"]) == ({"input": 0.15, "output": 0.6}, {"input": 32768})
    assert (big["replicas"], big["fallback"], big["capabilities"]) == ({"max": 2}, ["local-llama"], ["tools"])
    assert fleet["keys"] == [{"id": "master", "account": "default", "secret_env": "CORTEXD_KEY_MASTER"}]
    assert [n["name"] for n in fleet["neurons"]] == ["gpu1", "gpu2", "local"]
    assert models["aliases"] == {"gpt-3.5-turbo": "local-llama", "gpt-4": "qwen-big"}
    assert '# id = "gpt-4o"' in done.models
    assert "os.environ/AZURE_API_KEY" in done.models  # the name of a secret is none
    assert any("somebody else's API" in n.reason and n.key == "model_list[5]" for n in done.notes)


def test_llama_swap_commands_say_context_concurrency_and_sampling() -> None:
    done = imported("llama-swap")
    models = {m["id"]: m for m in tomllib.loads(done.models)["models"]}

    assert sorted(models) == ["embed", "qwen3-30b", "vl"]
    big = models["qwen3-30b"]
    assert (big["context"], big["max_sequences"], big["idle_ttl_s"]) == (16384, 2, 600)
    assert big["sampling"] == {"temperature": 0.5, "top_p": 0.8, "top_k": 20}
    assert (models["embed"]["task"], models["embed"]["residency_priority"]) == ("embed", 200)
    assert (models["vl"]["context"], models["vl"]["max_sequences"]) == (16384, 8)
    assert tomllib.loads(done.models)["aliases"] == {"qwen": "qwen3-30b", "gpt-4o-mini": "qwen3-30b"}
    fleet = tomllib.loads(done.fleet)
    assert fleet["gateway"] == {"cold_load_wait_s": 300, "require_auth": True}
    assert fleet["eviction"] == {"idle_ttl_s": 1800}
    assert [k["secret_env"] for k in fleet["keys"]] == ["CORTEXD_KEY_KEY_1", "SWAP_KEY"]
    assert "cortexd serves no rerankers" in done.models


def test_a_checkpoint_is_guessed_only_where_its_name_is_there() -> None:
    done = imported("llama-swap")

    assert "hf:nomic-ai/nomic-embed-text-v1.5@main" in done.models
    assert "hf:Qwen/Qwen2.5-VL-7B-Instruct@main" in done.models
    assert 'source = "hf:ORG/NAME@REVISION"' in done.models  # the GGUF file on a disk says nothing of its origin
