"""gunicorn, embedded: one ``asgi`` worker, because one process owns the devices."""

from __future__ import annotations

import socket
from typing import Any

from gunicorn.app.base import BaseApplication

from neuron.http.app import Asgi, create_app, read_token
from neuron.settings import NeuronSettings, SettingsError


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, settings: NeuronSettings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for key, value in _configuration(self._settings).items():
            self.cfg.set(key, value)

    def load(self) -> Asgi:
        return create_app(self._settings)


def _configuration(settings: NeuronSettings) -> dict[str, Any]:
    return {
        "bind": [settings.listen],
        "worker_class": "asgi",
        "workers": 1,
        "asgi_lifespan": "on",
        # a busy event loop is no reason to kill the process that holds the models
        "timeout": 0,
        "graceful_timeout": int(settings.drain_s) + 5,
        # gunicorn's asgi worker waits for idle connections when it stops; the gateway's pool copes with closed ones
        "keepalive": 4,
        "proc_name": f"neuron-{settings.name}",
        "loglevel": "warning",
        "control_socket_disable": True,
    }


def check_port(listen: str) -> None:
    """Raises SettingsError when the address cannot be listened on, before anything is started."""
    host, _, port = listen.rpartition(":")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise SettingsError(f"listen = {listen!r}: {reason}; stop what uses it, or change `listen`") from e


def run(settings: NeuronSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError before anything is started."""
    check_port(settings.listen)
    read_token(settings)  # a wrong token file is told here, not by a worker that dies
    _Server(settings).run()
