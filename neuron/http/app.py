"""The ASGI application: device threads, residents and resources, wired."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import falcon
import falcon.asgi

from cortexd.credentials import token_file
from cortexd.dialects import openai_chat, openai_completions
from cortexd.notify import Notifier
from cortexd.protocol.errors import ApiError
from neuron.device.jobs import DeviceSpec
from neuron.device.thread import DeviceThread
from neuron.http.chat import GenerateResource
from neuron.http.control import ControlResources
from neuron.http.count import CountResource
from neuron.http.embeddings import EmbeddingsResource
from neuron.http.metrics import MetricsResource
from neuron.http.requests import AT_END, RECEIVE, RequestMiddleware, on_api_error, on_crash, on_http_error
from neuron.http.vitals import Vitals
from neuron.residents import Residents
from neuron.session.base import SessionFactory
from neuron.session.encoder import open_session
from neuron.settings import NeuronSettings, SettingsError

_STOP_S = 5.0

Asgi = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class _Lifespan:
    """Starts the device threads with the worker's event loop, and ends them with it."""

    def __init__(self, residents: Residents, devices: dict[str, DeviceThread], vitals: Vitals) -> None:
        self._residents = residents
        self._devices = devices
        self._vitals = vitals
        self._tasks: list[asyncio.Task[None]] = []

    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        for device in self._devices.values():
            device.start()
        self._tasks = [asyncio.create_task(work) for work in (self._residents.activate(), self._vitals.run())]

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        for task in self._tasks:
            task.cancel()
        self._residents.stop()
        # requests have had their time to end
        stops = (asyncio.to_thread(device.stop, _STOP_S) for device in self._devices.values())
        await asyncio.gather(*stops)


def create_app(
    settings: NeuronSettings,
    session_factory: SessionFactory = open_session,
    notifier: Notifier | None = None,
    end: Callable[[int], None] = lambda _: None,
) -> Asgi:
    """Build the application. Raises SettingsError when the token file cannot be read. Starts nothing.

    ``end`` is told, on the event loop, to end the process with a status: a device failed for good.
    """
    devices = {
        d.name: DeviceThread(DeviceSpec(d.name, d.kind, d.index, d.threads, d.memory_mb << 20), session_factory)
        for d in settings.devices
    }
    residents = Residents(settings, devices)
    control = ControlResources(settings, residents, devices)
    vitals = Vitals(settings, residents, devices, notifier or Notifier(), end)
    lifespan = _Lifespan(residents, devices, vitals)
    middleware: list[Any] = [RequestMiddleware(read_token(settings)), lifespan]
    app = falcon.asgi.App(middleware=middleware)
    for suffix in ("version", "discovery", "health", "models"):
        app.add_route(f"/{suffix}", control, suffix=suffix)
    app.add_route("/models/load", control, suffix="load")
    app.add_route("/models/unload", control, suffix="unload")
    app.add_sink(control.endpoint, r"/models/(?P<model_id>.+)/endpoint\Z")
    app.add_route("/metrics", MetricsResource(devices))
    body_limit, interval = settings.body_limit_mb << 20, settings.keepalive_interval_s
    app.add_route("/v1/chat/completions", GenerateResource(openai_chat, residents, body_limit, interval))
    app.add_route("/tokenize", CountResource(residents, body_limit))
    app.add_route("/v1/completions", GenerateResource(openai_completions, residents, body_limit, interval))
    app.add_route("/v1/embeddings", EmbeddingsResource(residents, body_limit))
    app.add_error_handler(Exception, on_crash)
    app.add_error_handler(falcon.HTTPError, on_http_error)
    app.add_error_handler(ApiError, on_api_error)

    async def with_receive(scope: dict[str, Any], receive: Any, send: Any) -> None:
        # Falcon keeps ``receive`` to itself; who streams must see the client leave
        if scope["type"] == "http":
            scope[RECEIVE] = receive
        try:
            await app(scope, receive, send)
        finally:
            if at_end := scope.get(AT_END):
                at_end()

    return with_receive


def read_token(settings: NeuronSettings) -> str | None:
    """What callers must send, None for no token. Raises SettingsError when the file is unreadable or empty."""
    if settings.token_file is None:
        return None
    path = settings.base / token_file(settings.name, str(settings.token_file))
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise SettingsError(f"token_file: {settings.token_file} cannot be read: {e}") from e
    if not token:
        raise SettingsError(f"token_file: {settings.token_file} is empty")
    return token
