"""gunicorn, embedded: one ``asgi`` worker, because one process owns the devices."""

from __future__ import annotations

import math
import os
import signal
import socket
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.workers.gasgi import ASGIWorker

from cortexd.notify import Notifier
from neuron.http.app import Asgi, create_app, read_token
from neuron.http.vitals import DEVICE_FAILED
from neuron.settings import NeuronSettings, SettingsError

# What the worker needs after the last request ended or was cut off: to end the device threads.
_MARGIN_S = 10


class _Arbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Ends with its worker. Starting that again is for whoever started us, who counts how often, and waits between."""

    # With this status of the worker gunicorn ends itself with the same.
    APP_LOAD_ERROR = DEVICE_FAILED

    def __init__(self, app: _Server, notifier: Notifier) -> None:
        super().__init__(app)
        self._notifier = notifier
        self._spawned = False

    def manage_workers(self) -> None:
        if self._spawned and not self.WORKERS:
            raise HaltServer("the process that holds the devices ended", 1)
        self._spawned = True
        super().manage_workers()

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        super().halt("a device failed" if exit_status == DEVICE_FAILED else reason, exit_status)

    def stop(self, graceful: bool = True) -> None:
        self._notifier.stopping("letting requests end")
        self.cfg.set("graceful_timeout", self.cfg.graceful_timeout + _MARGIN_S)
        super().stop(graceful)

    def _ignore(self) -> None:
        self.log.warning("ignored: one process owns the devices, so there is never a second one")

    handle_hup = handle_ttin = handle_usr2 = _ignore


class _Worker(ASGIWorker):  # type: ignore[misc]
    """Ends without finalizers: what a failed device holds may never let go, and those of ONNX Runtime, which was
    imported before the fork, wait for threads that only the parent has."""

    def init_process(self) -> None:
        status = 1
        try:
            super().init_process()
            status = self.app.exit_status
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        except Exception:
            self.log.exception("the neuron cannot run")
            status = 1 if self.booted else Arbiter.WORKER_BOOT_ERROR
        finally:
            os._exit(status)


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: NeuronSettings) -> None:
        self._settings = settings
        self._notifier = Notifier.take()
        self.exit_status = 0
        super().__init__()

    def load_config(self) -> None:
        for key, value in _configuration(self._settings).items():
            self.cfg.set(key, value)

    def load(self) -> Asgi:
        return create_app(self._settings, notifier=self._notifier, end=self._end)

    def run(self) -> None:
        _Arbiter(self, self._notifier).run()

    def _end(self, status: int) -> None:
        """In the worker: stop as on SIGTERM, with that status."""
        self.exit_status = status
        os.kill(os.getpid(), signal.SIGTERM)


def _configuration(settings: NeuronSettings) -> dict[str, Any]:
    return {
        "bind": [settings.listen],
        "worker_class": _Worker,
        "workers": 1,
        "asgi_lifespan": "on",
        # a busy event loop is no reason to kill the process that holds the models
        "timeout": 0,
        "graceful_timeout": math.ceil(settings.drain_s),
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
