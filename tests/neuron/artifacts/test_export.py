"""Checkpoint to artifact, through the real optimum."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cortexd.protocol.manifest import Manifest
from neuron.artifacts.export.cli import export as command


def test_the_command_needs_no_torch_until_it_runs() -> None:
    heavy = "{'torch', 'transformers', 'optimum', 'onnx'}"
    code = f"import sys, neuron.artifacts.export.cli; print({heavy} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_a_missing_extra_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)

    done = CliRunner().invoke(command, [str(tmp_path), "--out", str(tmp_path / "out")])

    assert done.exit_code == 1
    assert "exporting needs onnx" in done.output
    assert "cortexd[export]" in done.output


pytest.importorskip("torch", reason="needs the extra `export`")
pytest.importorskip("optimum.exporters.onnx", reason="needs the extra `export`")

from neuron.artifacts.export import pipeline, tiny  # noqa: E402
from neuron.artifacts.export.errors import ExportError  # noqa: E402

WINDOW = 24


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.build_tokenizer(vocabulary=400)


@pytest.fixture(scope="module")
def checkpoint(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny.make_chat(folder, tokenizer, steps=1, hidden=32, layers=3, window=WINDOW)
    return folder


@pytest.fixture(scope="module")
def artifact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifact") / "small"
    pipeline.export(checkpoint, out)
    return out


@pytest.mark.export
def test_a_decoder_built_from_scratch_matches_transformers(artifact: Path) -> None:
    manifest = Manifest.from_json((artifact / "manifest.json").read_text())

    assert float(manifest.export["max_abs_difference"]) < 1e-4
    assert (manifest.task, manifest.architecture, manifest.context) == ("chat", "qwen3", 131_072)
    assert (manifest.kv_bytes_per_token, manifest.sliding_window) == (3 * 2 * 1 * 64 * 4, WINDOW)


@pytest.mark.export
def test_the_graph_has_the_interface_that_a_session_binds(artifact: Path) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(str(artifact / "model.onnx"), providers=["CPUExecutionProvider"])

    cache = [f"{layer}.{part}" for layer in range(3) for part in ("key", "value")]
    fixed = ["input_ids", "position_ids", "seqlens_k", "total_sequence_length"]
    assert [i.name for i in session.get_inputs()] == fixed + [f"past_key_values.{name}" for name in cache]
    assert [o.name for o in session.get_outputs()] == ["logits"] + [f"present.{name}" for name in cache]
    assert session.get_outputs()[0].shape[1:] == [400]


@pytest.mark.export
def test_a_tied_head_shares_the_embedding(artifact: Path) -> None:
    import onnx

    weights = onnx.load(artifact / "model.onnx").graph.initializer

    assert [w.name for w in weights if 400 in w.dims] == ["model.embed_tokens.weight"]


@pytest.mark.export
def test_the_manifest_names_every_file_with_its_hash(artifact: Path) -> None:
    manifest = Manifest.from_json((artifact / "manifest.json").read_text())

    assert set(manifest.files) == {p.name for p in artifact.iterdir()} - {"manifest.json"}
    assert {"tokenizer.json", "chat_template.jinja", "generation_config.json", "model.onnx"} <= set(manifest.files)
    for name, entry in manifest.files.items():
        assert hashlib.sha256((artifact / name).read_bytes()).hexdigest() == entry.sha256


@pytest.mark.export
def test_a_head_with_weights_of_its_own_matches_too(tokenizer: Any, tmp_path: Path) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")

    manifest = pipeline.export(tmp_path / "checkpoint", tmp_path / "out")

    assert (manifest.sliding_window, manifest.kv_bytes_per_token) == (None, 2 * 2 * 2 * 16 * 4)


@pytest.mark.export
def test_an_encoder_matches_transformers_and_takes_only_ids_and_mask(tokenizer: Any, tmp_path: Path) -> None:
    import onnx

    tiny.make_embed(tmp_path / "checkpoint", tokenizer, steps=1, hidden=32)

    manifest = pipeline.export(tmp_path / "checkpoint", tmp_path / "out")

    inputs = onnx.load(tmp_path / "out" / "model.onnx").graph.input
    assert (manifest.task, manifest.pooling) == ("embed", "mean")
    assert [i.name for i in inputs] == ["input_ids", "attention_mask"]


@pytest.mark.export
@pytest.mark.parametrize("change", ["weights", "window"])
def test_a_graph_that_computes_something_else_is_not_published(
    change: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    def tampered(model: Any, shape: Any) -> Any:
        done = honest(model, shape)
        if change == "window":
            node = next(n for n in done.graph.node if n.name == "gqa.0")
            next(a for a in node.attribute if a.name == "local_window_size").i = WINDOW + 1
            return done
        weight = max(done.graph.initializer, key=lambda w: len(w.raw_data))
        values = onnx.numpy_helper.to_array(weight).copy()
        values[:, 0] += np.float32(0.5)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        return done

    honest = pipeline.rewrite
    monkeypatch.setattr(pipeline, "rewrite", tampered)

    with pytest.raises(ExportError, match=r"differs from transformers by \d"):
        pipeline.export(checkpoint, tmp_path / "out")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "config.json is missing"),
        ("{", "config.json cannot be read"),
        (json.dumps({"model_type": "gpt2"}), "gpt2 cannot be exported for task chat yet; supported are chat: qwen3"),
        (
            json.dumps({"model_type": "qwen3", "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
            "rope_scaling dynamic depends on the input's length",
        ),
        (json.dumps({"model_type": "qwen3"}), "optimum could not export"),
    ],
)
def test_a_source_that_cannot_be_exported_is_told_plainly(tmp_path: Path, config: str | None, said: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    if config is not None:
        (source / "config.json").write_text(config)

    done = CliRunner().invoke(command, [str(source), "--out", str(tmp_path / "out")])

    assert done.exit_code == 1
    assert said in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_a_folder_that_does_not_exist_is_said_to_be_missing(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")])

    assert done.exit_code == 1
    assert "nowhere: no such folder" in done.output


@pytest.mark.export
@pytest.mark.parametrize(("more", "said"), [(["--precision", "int4"], "int4 is not there yet"), ([], "exists already")])
def test_what_is_not_there_yet_says_so(checkpoint: Path, tmp_path: Path, more: list[str], said: str) -> None:
    done = CliRunner().invoke(command, [str(checkpoint), "--out", str(tmp_path), *more])

    assert done.exit_code == 1
    assert said in done.output


@pytest.mark.export
def test_a_hub_id_is_fetched_from_the_hub_that_is_configured(checkpoint: Path, tmp_path: Path) -> None:
    """The real hub client, against a stand-in on loopback; in a process of its own, since it reads HF_ENDPOINT once."""
    with _hub(checkpoint) as (endpoint, asked):
        done = subprocess.run(
            [sys.executable, "-m", "cortexd", "model", "export", "org/small", "--out", str(tmp_path / "out")],
            env=os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"},
            cwd=Path(__file__).resolve().parents[3],
            capture_output=True,
            text=True,
            timeout=150,
        )

    assert done.returncode == 0, done.stderr[-2000:]
    assert "org/small/resolve/main/model.safetensors" in asked
    assert Manifest.from_json((tmp_path / "out" / "manifest.json").read_text()).architecture == "qwen3"


@contextmanager
def _hub(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Enough of a hub: files of one repository at one commit, with the headers that its client wants."""
    asked: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0].strip("/")
            asked.add(path)
            if path.startswith("api/models/org/small/tree/"):
                wanted = path.split("/tree/", 1)[1].partition("/")[2]
                entries = [{"type": "file", "path": p.name, "oid": "b" * 40, "size": 1} for p in folder.iterdir()]
                data = json.dumps([] if wanted else entries).encode()
            elif path.startswith("api/models/org/small"):
                names = [{"rfilename": p.name} for p in folder.iterdir()]
                data = json.dumps({"id": "org/small", "sha": "a" * 40, "siblings": names, "tags": []}).encode()
            elif (file := folder / path.rsplit("/", 1)[-1]).is_file():
                data = file.read_bytes()
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
