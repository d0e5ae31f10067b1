"""The gateway under a service manager: sockets that outlive it, readiness, watchdog, and TLS on the API."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization as s

from tests.cortexd.gateway.conftest import ROOT, Gateway, Make, chat
from tests.cortexd.gateway.fake_neuron import Behaviour, FakeNeuron
from tests.cortexd.manager import Manager
from tests.cortexd.ports import free_ports

Spoil = Callable[[dict[str, str], trustme.CA], None]

# What systemd does between fork and exec: the sockets become descriptors 3 and 4, and the process learns of them.
ACTIVATE = """
import os, sys
passed = [os.dup(int(number)) for number in sys.argv[1].split(",") if number]
for n, descriptor in enumerate(passed):
    os.dup2(descriptor, 3 + n)
    os.set_inheritable(3 + n, True)
if passed:
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(passed))}
os.execv(sys.executable, [sys.executable, "-m", "cortexd", "gateway", "--state-dir", sys.argv[2]])
"""


# Without the command, which looks for the database first; and with less patience.
BARE = """
import sys
from pathlib import Path
from cortexd.gateway import arbiter, server
from cortexd.settings import load_settings
arbiter.BEAT_S = 1.5
state = Path(sys.argv[2])
server.run(load_settings(state / "etc" / "control.toml"), state)
"""


class Service:
    """A gateway that was started as systemd starts it."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.gateway = gateway
        self.manager = Manager(folder)
        self.sockets: list[socket.socket] = []
        self.process: subprocess.Popen[bytes] | None = None

    def open_sockets(self) -> None:
        for key in ("listen", "metrics_listen"):
            port = int(self.gateway.config[key].rpartition(":")[2])
            self.sockets.append(socket.create_server(("127.0.0.1", port), backlog=128))

    def start(self, program: str = ACTIVATE, **environment: str) -> None:
        numbers = [s.fileno() for s in self.sockets]
        self.manager.heard.clear()
        with (self.gateway.state / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, ",".join(map(str, numbers)), str(self.gateway.state)],
                cwd=ROOT, stdout=log, stderr=log, pass_fds=numbers, start_new_session=True,
                env=os.environ | self.manager.environment() | environment,
            )  # fmt: skip

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for opened in self.sockets:
            opened.close()
        self.manager.close()


@pytest.fixture
def service(make_gateway: Make, neuron: FakeNeuron, tmp_path: Path) -> Iterator[Service]:
    made = Service(make_gateway({"n1": neuron.url}, start=False, workers=2, drain_s=5), tmp_path)
    yield made
    made.close()


def test_ready_means_that_every_worker_has_read_the_fleet(service: Service) -> None:
    service.start()
    heard = list(service.manager.wait_for("READY=1"))
    assert httpx.get(service.gateway.metrics + "/ready").status_code == 200
    assert httpx.get(service.gateway.base + "/ready").status_code == 200
    fed = service.manager.listen(1.5).count("WATCHDOG=1")
    service.stop()

    assert heard[:2] == ["READY=1", "STATUS=serving with 2 workers"]
    assert fed >= 1
    last = [line for line in service.manager.listen() if line != "WATCHDOG=1"][-2:]
    assert last == ["STOPPING=1", "STATUS=letting answers end"]


def test_without_the_database_it_is_not_ready_yet(service: Service) -> None:
    database = service.gateway.state / "state.db"
    hidden = database.rename(database.with_name("hidden"))
    service.start(BARE)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(service.gateway.base + "/health").status_code == 200:
                break
        time.sleep(0.05)
    service.manager.listen(1.0)
    assert "READY=1" not in service.manager.heard
    database.unlink(missing_ok=True)
    hidden.rename(database)

    service.manager.wait_for("READY=1")


def test_a_worker_that_hangs_stops_the_food(service: Service) -> None:
    service.start(BARE)
    service.manager.wait_for("WATCHDOG=1")
    assert service.process is not None
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGSTOP)
    try:
        service.manager.listen(2.5)
        service.manager.heard.clear()
        heard = list(service.manager.listen(1.2))
    finally:
        os.kill(int(children[0]), signal.SIGCONT)

    assert "WATCHDOG=1" not in heard
    service.manager.wait_for("WATCHDOG=1")


def test_a_restart_refuses_no_connection_and_breaks_no_stream(service: Service, neuron: FakeNeuron) -> None:
    neuron.behaviour = Behaviour(step_s=0.3)
    service.open_sockets()
    service.start()
    service.manager.wait_for("READY=1")
    outcomes: list[int | str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:  # a connection of its own each time: the question is whether it is taken
                outcomes.append(httpx.get(service.gateway.base + "/v1/models", timeout=20).status_code)
            except httpx.HTTPError as e:
                outcomes.append(repr(e))

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    with httpx.stream(
        "POST", service.gateway.base + "/v1/chat/completions", json=chat(stream=True), timeout=20
    ) as stream:
        lines = stream.iter_lines()
        first = next(lines)
        stopping = threading.Thread(target=service.stop)
        stopping.start()
        rest = list(lines)
    stopping.join()
    service.start()
    service.manager.wait_for("READY=1")
    before = len(outcomes)
    while len(outcomes) < before + 20:
        time.sleep(0.02)
    over.set()
    for thread in asking:
        thread.join()

    assert first.startswith("data: ") and [line for line in rest if line][-1] == "data: [DONE]"
    assert set(outcomes) == {200}
    assert service.stop() == 0


def test_sockets_of_other_ports_are_refused_in_words(service: Service) -> None:
    for port in free_ports(2):
        service.sockets.append(socket.create_server(("127.0.0.1", port)))
    service.start()

    assert service.process is not None and service.process.wait(15) == 1
    assert "restart cortexd-gateway.socket" in service.gateway.log


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def pem(folder: Path, authority: trustme.CA, name: str = "api") -> dict[str, str]:
    issued = authority.issue_cert("127.0.0.1")
    chain, key = folder / f"{name}.crt", folder / f"{name}.key"
    chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    return {"tls_certificate": str(chain), "tls_key": str(key)}


def test_the_api_speaks_tls_and_the_metrics_do_not(
    make_gateway: Make, neuron: FakeNeuron, authority: trustme.CA, tmp_path: Path
) -> None:
    gateway = make_gateway({"n1": neuron.url}, start=False, **pem(tmp_path, authority))
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    service = Service(gateway, tmp_path)
    service.start()
    try:
        service.manager.wait_for("READY=1")
        base = gateway.base.replace("http:", "https:")
        # a client that never shakes hands keeps nobody waiting
        idle = socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2])))
        with httpx.Client(verify=trusted, timeout=10) as client:
            answer = client.post(base + "/v1/chat/completions", json=chat())
            again = client.get(base + "/v1/models")
            with client.stream("POST", base + "/v1/chat/completions", json=chat(stream=True)) as stream:
                lines = [line for line in stream.iter_lines() if line]
        plain = httpx.get(gateway.metrics + "/ready")
        with pytest.raises(httpx.TransportError):
            httpx.get(gateway.base + "/health", timeout=5)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            httpx.get(base + "/health", verify=old)
        idle.close()
    finally:
        service.close()

    assert answer.status_code == 200 and answer.json()["object"] == "chat.completion"
    assert again.status_code == 200
    assert lines[-1] == "data: [DONE]" and len(lines) > 5
    assert plain.status_code == 200
    assert "Traceback" not in gateway.log


def test_a_client_that_leaves_a_tls_connection_frees_the_neuron(
    make_gateway: Make, neuron: FakeNeuron, authority: trustme.CA, tmp_path: Path
) -> None:
    neuron.behaviour = Behaviour(step_s=0.5, words=("word",) * 60)
    gateway = make_gateway({"n1": neuron.url}, start=False, **pem(tmp_path, authority))
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    service = Service(gateway, tmp_path)
    service.start()
    try:
        service.manager.wait_for("READY=1")
        url = gateway.base.replace("http:", "https:") + "/v1/chat/completions"
        with httpx.stream("POST", url, json=chat(stream=True), verify=trusted, timeout=10) as stream:
            next(stream.iter_lines())
        assert neuron.seen[-1].broken.wait(3)
    finally:
        service.close()


def test_certificates_that_systemd_read_come_first(
    make_gateway: Make, neuron: FakeNeuron, authority: trustme.CA, tmp_path: Path
) -> None:
    files = pem(tmp_path, authority)
    folder = tmp_path / "credentials"
    folder.mkdir()
    Path(files["tls_certificate"]).rename(folder / "tls-certificate")
    Path(files["tls_key"]).rename(folder / "tls-key")
    service = Service(make_gateway({"n1": neuron.url}, start=False, **files), tmp_path)
    service.start(CREDENTIALS_DIRECTORY=str(folder))
    try:
        service.manager.wait_for("READY=1")
    finally:
        service.close()


def lose(files: dict[str, str], authority: trustme.CA) -> None:
    Path(files["tls_key"]).unlink()


def garble(files: dict[str, str], authority: trustme.CA) -> None:
    Path(files["tls_certificate"]).write_text("no")


def swap(files: dict[str, str], authority: trustme.CA) -> None:
    other = pem(Path(files["tls_key"]).parent, authority, "other")
    Path(other["tls_key"]).replace(files["tls_key"])


def encrypt(files: dict[str, str], authority: trustme.CA) -> None:
    path = Path(files["tls_key"])
    key = s.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lose, "tls_key: .*api.key: No such file"),
        (garble, "no certificate chain and private key"),
        (swap, "does not belong to the certificate"),
        (encrypt, "is encrypted"),
    ],
)
def test_bad_certificate_files_are_told_before_anything_is_served(
    make_gateway: Make, authority: trustme.CA, tmp_path: Path, spoil: Spoil, said: str
) -> None:
    files = pem(tmp_path, authority)
    spoil(files, authority)
    gateway = make_gateway({}, start=False, **files)
    command = [sys.executable, "-m", "cortexd", "gateway", "--state-dir", str(gateway.state)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(said, done.stderr), done.stderr
