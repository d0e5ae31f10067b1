"""A host over the system's OpenSSH client: ``cortexd host ACTION`` over there, JSON in and out.

Nothing is installed there but the package. Whoever runs apply must be able to log in without a password, and must have
accepted the host's key: nothing is asked and nothing is accepted here.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import threading
from urllib.parse import urlsplit

from cortexd import __version__
from cortexd.deploy.host.protocol import HostError, Order, Report
from cortexd.deploy.host.wire import decode_report, encode_order

# Seconds on top of what the order may take, for the way there and for starting Python.
MARGIN_S = 20.0
# What ssh says -> what to do about it. The first that is found counts.
_REMEDIES = (
    (
        "host key verification failed",
        "its key is unknown or changed: check it, then run `ssh {target}` once by hand",
    ),
    ("remote host identification has changed", "its key changed: check why before you accept the new one"),
    ("permission denied", "let this user log in there with a key: `ssh-copy-id {target}`"),
    ("could not resolve hostname", "correct `ssh` of the host in fleet.toml"),
    ("connection refused", "start sshd there, or correct the port in `ssh`"),
    ("no route to host", "is the machine on?"),
    ("timed out", "is the machine on, and does a firewall let ssh through?"),
    ("connection closed", "is sshd there well? Try `ssh {target}`"),
)


class SshChannel:
    """One host; each order is one ssh process. ``target``: HOST, USER@HOST or ssh://USER@HOST:PORT.

    ``prefix`` is where cortexd is installed there; a relative one counts from the home folder. ``$CORTEXD_SSH`` may
    name another command than ``ssh``, options included.
    """

    def __init__(self, host: str, target: str, prefix: str) -> None:
        self.host = host
        self.target = target
        self.prefix = prefix
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._cancelled = False

    def ask(self, order: Order) -> Report:
        """Carry it out there; blocks at most ``order.timeout_s`` plus ``MARGIN_S``. Raises HostError with a remedy."""
        command = self._command(order)
        with self._lock:
            if self._cancelled:
                raise self._error("it was not asked: interrupted")
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
            except OSError as e:
                raise self._error(f"{command[0]}: {e.strerror}; install the OpenSSH client") from None
            self._running.add(process)
        try:
            out, err = process.communicate(encode_order(order), timeout=order.timeout_s + MARGIN_S)
        except subprocess.TimeoutExpired:
            raise self._error(
                f"no answer to {order.action} within {order.timeout_s + MARGIN_S:.0f} s; see what it does over there, "
                "then run the same command again"
            ) from None
        finally:
            with self._lock:
                self._running.discard(process)
            _end(process)
        if process.returncode != 0:
            raise self._error(self._why(process.returncode, err.decode("utf-8", "replace"), order))
        try:
            return decode_report(out)
        except ValueError:
            raise self._error(
                f"the answer is none of cortexd {__version__}: is {self._program} another program?"
            ) from None

    def cancel(self) -> None:
        """End what is running; from any thread. The far side finishes what it began, and can be asked again."""
        with self._lock:
            self._cancelled = True
            for process in self._running:
                with contextlib.suppress(OSError):
                    process.kill()

    @property
    def _program(self) -> str:
        return f"{self.prefix.rstrip('/')}/bin/cortexd"

    def _command(self, order: Order) -> list[str]:
        try:
            client = shlex.split(os.environ.get("CORTEXD_SSH") or "ssh")
        except ValueError as e:
            raise self._error(f"$CORTEXD_SSH cannot be read as a command: {e}") from None
        options = ["BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=10", "ServerAliveCountMax=3"]
        flags = [part for option in options for part in ("-o", option)]
        return [*client, *flags, "-T", *self._destination(), f"{shlex.quote(self._program)} host {order.action}"]

    def _destination(self) -> list[str]:
        """``ssh`` itself takes a URI, other commands may not: so the port goes before the name."""
        if not self.target.startswith("ssh://"):
            return ["--", self.target]
        try:
            parts = urlsplit(self.target)
            name, port = parts.hostname, parts.port
        except ValueError:
            name = port = None
        if not name:
            raise self._error("`ssh` in fleet.toml is HOST, USER@HOST or ssh://USER@HOST:PORT")
        user = f"{parts.username}@" if parts.username else ""
        return [*(["-p", str(port)] if port else []), "--", f"{user}{name}"]

    def _why(self, status: int, said: str, order: Order) -> str:
        last = [line.strip() for line in said.strip().splitlines() if line.strip()]
        text = "; ".join(last[-3:])
        lower = said.lower()
        if status == 255 or status < 0:
            for sign, remedy in _REMEDIES:
                if sign in lower:
                    return f"{text or 'ssh failed'}: {remedy.format(target=self.target)}"
            return f"ssh ended {'by a signal' if status < 0 else 'with 255'}: {text or 'without a word'}; run it again"
        if status in (126, 127):
            return f"{self._program} is not there: install cortexd {__version__} into {self.prefix} on that host"
        if status == 2 and ("no such command" in lower or "usage:" in lower):
            return f"{self._program} is of another release, without `host`: install cortexd {__version__} there"
        message = "; ".join(line.removeprefix("Error: ").removeprefix(f"{self.host}: ") for line in last)
        return message or f"`cortexd host {order.action}` ended with status {status}"

    def _error(self, what: str) -> HostError:
        return HostError(f"{self.host} (ssh {self.target}): {what}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
