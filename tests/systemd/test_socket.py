"""A socket unit and its service: restarts that refuse nobody, and a port that changes."""

from __future__ import annotations

import time

from tests.systemd.fake import STEADY, Generation, ask, go
from tests.systemd.machine import PREFIX, Machine

SOCKET, SERVICE, OTHER = "cortexd-gateway.socket", "cortexd-gateway.service", "neuron@a.service"
_SERVICE = f"""[Unit]
PartOf=cortexd.target
Requires={SOCKET}
After={SOCKET}
[Service]
Type=notify
Environment=SETTING=%s
ExecStart={PREFIX}/bin/python /opt/answer.py
"""
_SOCKET = "[Unit]\nPartOf=cortexd.target\n[Socket]\nListenStream=127.0.0.1:%d\n[Install]\nWantedBy=cortexd.target\n"
# Answers "ok" to whoever connects, on the socket that systemd holds; what it has accepted it answers before it ends.
_ANSWER = """
import os, signal, socket, sys, time
s = socket.socket(fileno=3)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); n.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
while True:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    s.setblocking(True)
    import select; select.select([s], [], [])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    c, _ = s.accept(); c.sendall(b'ok'); c.close()
"""
# Connects all the time; says how many times, and what went wrong.
_CLIENT = """
import pathlib, socket
good, bad = 0, []
while not pathlib.Path('/tmp/enough').exists():
    try:
        with socket.create_connection(('127.0.0.1', 4000), timeout=20) as c:
            assert c.recv(9) == b'ok'
        good += 1
    except Exception as e:
        bad.append(repr(e))
print(good, bad)
"""


def generation(setting: str, port: int = 4000) -> Generation:
    units = {SOCKET: _SOCKET % port, SERVICE: _SERVICE % setting}
    return Generation({OTHER: ("1", STEADY)}, extra=units)


def test_a_restart_of_the_service_under_load_refuses_no_connection(box: Machine) -> None:
    box.write("/opt/answer.py", _ANSWER)
    go(box, generation("1"))
    import subprocess

    client = subprocess.Popen(box.command([f"{PREFIX}/bin/python", "-c", _CLIENT]), stdout=subprocess.PIPE, text=True)
    before = {unit: box.show(unit, "InvocationID") for unit in (SOCKET, SERVICE, OTHER)}
    time.sleep(0.3)

    for setting in ("2", "3", "4"):
        assert go(box, generation(setting)).changed == ((SERVICE, "restarted"),)

    box.write("/tmp/enough", "")
    out, _ = client.communicate(timeout=30)
    good, _, bad = out.partition(" ")
    assert int(good) > 100 and bad.strip() == "[]"
    after = {unit: box.show(unit, "InvocationID") for unit in (SOCKET, SERVICE, OTHER)}
    assert {unit for unit in before if before[unit] != after[unit]} == {SERVICE}


def test_a_port_that_changes_is_bound_anew_with_its_service(box: Machine) -> None:
    box.write("/opt/answer.py", _ANSWER)
    go(box, generation("1"))
    other = box.show(OTHER, "MainPID")

    report = go(box, generation("1", port=4001))

    assert report.problems == ()
    assert dict(report.changed) == {SOCKET: "restarted", SERVICE: "restarted"}
    assert box.show(OTHER, "MainPID") == other
    said = box.python("import socket; print(socket.create_connection(('127.0.0.1', 4001)).recv(9))")
    assert said == "b'ok'\n"
    refused = "import socket\ntry: socket.create_connection(('127.0.0.1', 4000))\nexcept OSError as e: print(e.errno)"
    assert box.python(refused) == "111\n"
    assert ask(box, generation("1", port=4001).order("ready")).problems == ()
