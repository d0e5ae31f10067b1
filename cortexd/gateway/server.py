"""The process: gunicorn, embedded, with both addresses on every worker.

This module imports neither metrics nor anything else that counts: their files must be named first.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import socket
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.systemd import SD_LISTEN_FDS_START

from cortexd.credentials import credential
from cortexd.notify import Notifier
from cortexd.settings import ControlSettings, GatewaySettings


class GatewayError(Exception):
    """The gateway cannot start; the message says why and what to do."""


def run(settings: ControlSettings, state_dir: Path) -> None:
    """Serve until SIGTERM (answers under way get ``drain_s``) or SIGINT. Raises GatewayError before anything is served.

    Ends with SystemExit. Sockets that systemd passes are used instead of the addresses in ``settings``.
    """
    addresses = {"listen": settings.gateway.listen, "metrics_listen": settings.gateway.metrics_listen}
    ports = {key: split_address(key, value)[1] for key, value in addresses.items()}
    if ports["listen"] == ports["metrics_listen"]:
        raise GatewayError("[gateway] listen and metrics_listen need different ports")
    if passed := _passed_ports():
        if passed != sorted(ports.values()):
            raise GatewayError(
                f"systemd passed sockets of the ports {passed}, but [gateway] names {sorted(ports.values())}; "
                "restart cortexd-gateway.socket"
            )
    else:
        for key, value in addresses.items():
            _check_free(key, value)
    tls = _tls(settings.gateway)
    _prepare_metrics(state_dir.resolve() / "metrics")
    _Application(settings, state_dir.resolve(), ports, tls).run()


def _passed_ports() -> list[int]:
    """The ports of the sockets that systemd gave to this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    found = []
    for descriptor in range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + int(os.environ.get("LISTEN_FDS", "0"))):
        with socket.socket(fileno=os.dup(descriptor)) as passed:
            name = passed.getsockname()
            found.append(int(name[1]) if isinstance(name, tuple) else 0)
    return sorted(found)


def _tls(gateway: GatewaySettings) -> Any:
    """The context for the API's address, None without TLS. Files that systemd read for us come first."""
    if gateway.tls_certificate is None and gateway.tls_key is None:
        return None
    if gateway.tls_certificate is None or gateway.tls_key is None:
        raise GatewayError("[gateway] tls_certificate and tls_key belong together: set both, or none")
    from cortexd.gateway.tls import TlsError, server_context

    try:
        return server_context(
            credential("tls-certificate") or Path(gateway.tls_certificate),
            credential("tls-key") or Path(gateway.tls_key),
        )
    except TlsError as e:
        raise GatewayError(str(e)) from None


def split_address(key: str, address: str) -> tuple[str, int]:
    """HOST:PORT in its parts; IPv6 hosts stand in brackets. Raises GatewayError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise GatewayError(f'[gateway] {key} = "{address}" is not HOST:PORT')
    return host.strip("[]"), int(port)


def _check_free(key: str, address: str) -> None:
    """gunicorn would try for five seconds and then say less."""
    host, port = split_address(key, address)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, at = found[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(at)
    except OSError as e:
        if e.errno == errno.EADDRINUSE:
            raise GatewayError(
                f"{address} is in use by another process; stop that, "
                f"or set [gateway] {key} in fleet.toml, compile and apply"
            ) from None
        raise GatewayError(f'[gateway] {key} = "{address}" cannot be listened on: {e.strerror or e}') from None


def _prepare_metrics(folder: Path) -> None:
    """Counters start at zero with the process, and prometheus_client finds its folder in the environment."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as e:
        raise GatewayError(f"{folder}: {e.strerror}; the state directory must be writable") from None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


class _Application(BaseApplication):  # type: ignore[misc]
    """gunicorn's view of us. ``load`` runs in each worker, after the fork."""

    def __init__(self, settings: ControlSettings, state_dir: Path, ports: dict[str, int], tls: Any) -> None:
        self._settings = settings
        self._state_dir = state_dir
        self._ports = ports
        self._tls = tls
        self._core: Any = None
        super().__init__()

    def run(self) -> None:
        """Until a signal. Ends with SystemExit."""
        from cortexd.gateway.arbiter import GatewayArbiter

        # taken before gunicorn sees it, which would call itself ready before there is a worker
        GatewayArbiter(self, Notifier.take()).run()

    def load_config(self) -> None:
        """What we decide; everything else is gunicorn's default."""
        from cortexd.gateway.worker import Worker

        gateway = self._settings.gateway
        options: dict[str, Any] = {
            "bind": [gateway.listen, gateway.metrics_listen],
            "workers": gateway.workers,
            "worker_class": Worker,
            "worker_connections": 4000,
            "keepalive": 75,
            "graceful_timeout": math.ceil(gateway.drain_s),
            "limit_request_line": 8190,
            "proc_name": "cortexd-gateway",
            "loglevel": "warning",
            "control_socket_disable": True,
            "child_exit": _forget_worker,
            "worker_exit": lambda _arbiter, _worker: self._stop(),
        }
        for key, value in options.items():
            self.cfg.set(key, value)

    def load(self) -> Any:
        """The WSGI application of this worker."""
        from cortexd.gateway.app import by_port, create_app, create_metrics_app
        from cortexd.gateway.core import Core

        self._core = Core(self._settings, self._state_dir)
        self._core.start()
        return by_port(create_app(self._core), create_metrics_app(self._core), self._ports["metrics_listen"])

    def knows_fleet(self) -> bool:
        """In a worker: whether it has read the database once."""
        return self._core is not None and self._core.picture.known

    def tls_for(self, port: int) -> Any:
        """In a worker: the TLS context of that listening port, None for plain HTTP."""
        return self._tls if port == self._ports["listen"] else None

    def _stop(self) -> None:
        if self._core is not None:
            self._core.stop()


def _forget_worker(_arbiter: Any, worker: Any) -> None:
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
