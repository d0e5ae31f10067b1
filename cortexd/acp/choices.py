"""Which models there are to choose from, and which one a session begins with."""

from __future__ import annotations

import asyncio

from cortexd.acp.config import Config, ConfigError, Endpoint
from cortexd.acp.upstream import Upstream, UpstreamError


async def listed_models(upstream: Upstream, config: Config) -> dict[str, list[str] | str]:
    """Endpoint -> its models, the default first; or why it does not tell and has no default."""

    async def one(endpoint: Endpoint) -> list[str] | str:
        default = [endpoint.default_model] if endpoint.default_model else []
        try:
            found = await upstream.models(endpoint)
        except (UpstreamError, ConfigError) as e:
            return default or str(e)
        return [*default, *(m for m in found if m not in default)]

    found = await asyncio.gather(*(one(endpoint) for endpoint in config.endpoints))
    return {endpoint.name: models for endpoint, models in zip(config.endpoints, found, strict=True)}


def first_model(config: Config, listed: dict[str, list[str] | str]) -> tuple[Endpoint, str]:
    """Of the default endpoint. Raises UpstreamError where it has none."""
    endpoint = config.endpoint(config.default_endpoint)
    models = listed[config.default_endpoint]
    if endpoint is None or isinstance(models, str):
        raise UpstreamError(f"{models}; start what should answer there, or name another endpoint in acp.toml")
    if not models:
        raise UpstreamError(f"endpoint {endpoint.name!r} lists no model; set default_model")
    return endpoint, models[0]
