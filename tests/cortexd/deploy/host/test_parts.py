"""Small parts of the agent: host.json, secrets in journals, URLs, links of an image, what root trusts."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cortexd.deploy.host.answers import ask_url
from cortexd.deploy.host.durable import read_file, write_file
from cortexd.deploy.host.enable_offline import enable_offline
from cortexd.deploy.host.hostfile import Unit, read_host_file, unit_files
from cortexd.deploy.host.layout import layout_of
from cortexd.deploy.host.manager import redact
from cortexd.deploy.host.protocol import HostError, Order
from cortexd.deploy.host.ready import judge
from cortexd.deploy.host.running import Running

SAID: dict[str, Any] = {
    "schema": 1,
    "fleet": "lab",
    "host": "box",
    "prefix": "/opt/cortexd",
    "user_prefix": ".local/share/cortexd",
    "programs": ["cortexd"],
    "units": [{"name": "neuron@a.service", "kind": "service", "hash": "h", "ready": None}],
}


def host_json(**change: Any) -> dict[str, bytes]:
    return {"host.json": json.dumps({**SAID, **change}).encode()}


def test_host_json_is_read() -> None:
    host = read_host_file(host_json())

    assert host.units == (Unit("neuron@a.service", "service", "h", None),)
    with pytest.raises(HostError, match=r"lacks systemd/system/neuron@a\.service; compile again"):
        unit_files(host, {}, "system")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no host.json"),
        ({"host.json": b"x"}, "not one that the compiler wrote"),
        (host_json(schema=2), "schema 2"),
        (host_json(units=[{"name": "ssh.service", "hash": "h"}]), "names ssh.service, which is none of cortexd's"),
        (host_json(units=[{"name": "neuron@../x.service", "hash": "h"}]), "none of cortexd's"),
        (host_json(programs=["../sh"]), "none of cortexd's"),
        (host_json(prefix=1), "not one that the compiler wrote"),
    ],
)
def test_another_host_json_is_refused(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(HostError, match=message):
        read_host_file(files)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("postgresql://ada:geheim@db/x", "postgresql://ada:***@db/x"),
        ("password=hunter2 user=ada", "password=*** user=ada"),
        ('"api_key": "abc"', '"api_key": ***"'),
        ("key sk-0123456789abcdef refused", "key sk-*** refused"),
        ("Error: token_file: /etc/cortexd/token is empty", "Error: token_file: /etc/cortexd/token is empty"),
        ("made 12 tokens: fast", "made 12 tokens: fast"),
    ],
)
def test_secrets_in_what_a_unit_wrote_are_not_passed_on(line: str, shown: str) -> None:
    assert redact(line) == shown


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "said", "text", "final"),
    [
        (200, {"ready": True}, None, False),
        (200, {"activation": {"state": "ready", "failed": []}}, None, False),
        (200, {"activation": {"state": "pre_warming", "in_progress": "tiny", "failed": []}}, "is loading tiny", False),
        (
            200,
            {"activation": {"state": "ready", "failed": [{"model_id": "big", "error": "no memory"}]}},
            "cannot load big: no memory",
            True,
        ),
        (503, {"ready": False, "reason": "no neuron is reachable"}, "no neuron is reachable", False),
    ],
)
def test_what_a_ready_url_says(
    server: HTTPServer, status: int, said: dict[str, Any], text: str | None, final: bool
) -> None:
    server.answer = (status, json.dumps(said).encode())  # type: ignore[attr-defined]

    answer = ask_url(f"http://0.0.0.0:{server.server_port}/health")

    assert (answer is None) == (text is None)
    assert answer is None or (str(text) in answer.text and answer.final == final)


def test_a_unit_that_keeps_crashing_is_not_waited_for() -> None:
    unit = Unit("neuron@a.service", "service", "h", None)
    now = {"LoadState": "loaded", "ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "2"}

    early = judge(unit, now, Running())
    late = judge(unit, {**now, "NRestarts": "3"}, Running())

    assert early is not None and late is not None
    assert (early.final, late.final) == (False, True)
    assert late.text == "is activating (auto-restart), after 3 crashes"


def test_a_unit_that_runs_with_other_settings_is_not_ready() -> None:
    unit = Unit("neuron@a.service", "service", "new", None)
    now = {"LoadState": "loaded", "ActiveState": "active", "InvocationID": "i"}

    assert judge(unit, now, Running({"neuron@a.service": "new"})) is None
    answer = judge(unit, now, Running({"neuron@a.service": "old"}))
    assert answer is not None and "it was not restarted" in answer.text


def test_links_of_an_image_follow_the_install_sections(tmp_path: Path) -> None:
    layout = layout_of(Order("activate", "box", "image", "/var/lib/cortexd", "aa", root=str(tmp_path)))
    folder = layout.unit_folder
    folder.mkdir(parents=True)
    one = b"[Unit]\nWantedBy=no.target\n[Install]\nWantedBy=cortexd.target x.target\n# WantedBy=y\nAlias=z.service"

    def links() -> dict[str, str]:
        return {
            str(p.relative_to(folder)): os.fspath(p.readlink()) for p in sorted(folder.rglob("*")) if p.is_symlink()
        }

    enable_offline(layout, {"neuron@a.service": one}, ())
    assert links() == {
        "cortexd.target.wants/neuron@a.service": "../neuron@a.service",
        "x.target.wants/neuron@a.service": "../neuron@a.service",
        "z.service": "neuron@a.service",
    }
    enable_offline(layout, {"neuron@a.service": b"[Install]\nRequiredBy=cortexd.target\n"}, ())
    assert list(links()) == ["cortexd.target.requires/neuron@a.service"]
    enable_offline(layout, {}, ("neuron@a.service",))
    assert links() == {}


def test_root_reads_no_link_and_no_file_of_another(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"x", gid=os.getgid())
    (tmp_path / "link").symlink_to("a")

    assert read_file(tmp_path / "a", os.getuid()) == b"x"
    with pytest.raises(OSError):
        read_file(tmp_path / "link", None)
    with pytest.raises(PermissionError, match="does not belong to root"):
        read_file(tmp_path / "a", os.getuid() + 1)


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".cortexd-new-a-zzz").touch()

    write_file(tmp_path / "a", b"x")

    assert [p.name for p in tmp_path.iterdir()] == ["a"]
