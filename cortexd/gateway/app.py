"""The routes, and what every answer has in common."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import falcon
import gevent

from cortexd.gateway import metrics
from cortexd.gateway.catalogue import ModelEntry, Models
from cortexd.gateway.core import Core
from cortexd.gateway.dialects import ROUTES
from cortexd.gateway.errors import INTERNAL, answer_error, from_http, is_anthropic
from cortexd.gateway.generate import Generate
from cortexd.gateway.health import Health, Ready, Version
from cortexd.protocol.errors import ApiError

log = logging.getLogger("cortexd.gateway")

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Any]

# Routes of the dialects that this version does not serve, and why.
NOT_YET = {
    "/v1/messages/batches": "Batches are not served: send each request to POST /v1/messages.",
    "/v1/responses/{response_id}": "Responses are not stored yet.",
    "/v1/responses/{response_id}/cancel": "Responses are not stored yet.",
    "/v1/responses/{response_id}/input_items": "Responses are not stored yet.",
}


class RequestIds:
    """A name for each request: in the answer's header, in errors, in the ledger, and on its way to the neuron."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make it. A client's own is not taken: the ledger needs one that is unique."""
        req.context.request_id = f"req_{uuid4().hex}"
        resp.set_header("X-Request-Id", req.context.request_id)
        if is_anthropic(req):
            resp.set_header("Request-Id", req.context.request_id)


class NotYet:
    """What a dialect has and this version does not serve."""

    def __init__(self, why: str) -> None:
        self._why = why

    def on_post(self, req: falcon.Request, resp: falcon.Response, **_: str) -> None:
        """Say so."""
        raise ApiError(501, "api_error", "not_implemented", self._why)

    on_get = on_delete = on_post


def create_app(core: Core) -> falcon.App[falcon.Request, falcon.Response]:
    """The API over a started core."""
    app = falcon.App(middleware=[RequestIds()])
    app.req_options.strip_url_path_trailing_slash = True
    for path, dialect in ROUTES.items():
        app.add_route(path, Generate(core, dialect))
    app.add_route("/v1/models", Models(core))
    app.add_route("/v1/models/{model_id:path}", ModelEntry(core))
    app.add_route("/", Health(core))
    app.add_route("/health", Health(core))
    app.add_route("/ready", Ready(core))
    app.add_route("/version", Version())
    for path, why in NOT_YET.items():
        app.add_route(path, NotYet(why))
    app.add_error_handler(Exception, _on_unexpected)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(ApiError, _on_api_error)
    return app


class MetricsResource:
    """Prometheus' text format, over all workers."""

    def __init__(self, core: Core) -> None:
        self._spool = core.spool

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Collected in a real thread: it reads the workers' files."""
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"
        resp.data = gevent.get_hub().threadpool.apply(metrics.exposition, (self._spool,))


def create_metrics_app(core: Core) -> falcon.App[falcon.Request, falcon.Response]:
    """What the metrics address serves, in plain HTTP also when the API has TLS: nothing that clients should reach."""
    app = falcon.App(middleware=[RequestIds()])
    app.add_route("/metrics", MetricsResource(core))
    app.add_route("/artifacts/{digest}/{name:path}", core.artifacts)
    app.add_route("/health", Health(core))
    app.add_route("/ready", Ready(core))
    app.add_error_handler(Exception, _on_unexpected)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(ApiError, _on_api_error)
    return app


def by_port(api: Wsgi, metrics_app: Wsgi, metrics_port: int) -> Wsgi:
    """One WSGI application for both addresses."""
    port = str(metrics_port)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return (metrics_app if environ["SERVER_PORT"] == port else api)(environ, start_response)

    return application


def _on_api_error(req: falcon.Request, resp: falcon.Response, error: ApiError, params: dict[str, Any]) -> None:
    answer_error(req, resp, error)


def _on_http_error(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, Any]) -> None:
    answer_error(req, resp, from_http(error, req.method, req.path))
    if error.headers:
        resp.set_headers(error.headers)


def _on_unexpected(req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]) -> None:
    log.error("%s %s failed (%s)", req.method, req.path, req.context.request_id, exc_info=error)
    answer_error(req, resp, INTERNAL)
