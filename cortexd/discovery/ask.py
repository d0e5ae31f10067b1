"""HTTP to every neuron of a declared fleet: ``/discovery``, ``/version`` and ``/health``, at the same time, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cortexd.discovery.answers import AnswerError, Found, read_answers

AT_ONCE = 64
# More than any neuron's answer: what comes after it is not read.
_LIMIT = 4 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """A neuron to ask. ``token_file`` holds the bearer token that it wants; relative to the working directory."""

    name: str
    endpoint: str
    token_file: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it: ``found``, or ``error`` (one line; no token, no header)."""

    name: str
    found: Found | None
    error: str | None


async def ask_all(
    targets: Sequence[Target], timeout_s: float, at_once: int = AT_ONCE, done: Callable[[Answer], None] | None = None
) -> list[Answer]:
    """Ask every target, ``at_once`` at a time; ``timeout_s`` for each one as a whole. ``done`` hears of each answer.

    In the order of ``targets``. Never raises for what a neuron does.
    """
    gate = asyncio.Semaphore(at_once)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=at_once)

    async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as http:  # noqa: S113 (see _ask)

        async def one(target: Target) -> Answer:
            async with gate:
                answer = await _ask(http, target, timeout_s)
            if done is not None:
                done(answer)
            return answer

        return await asyncio.gather(*(one(target) for target in targets))


async def _ask(http: httpx.AsyncClient, target: Target, timeout_s: float) -> Answer:
    try:
        headers = _headers(target)
        async with asyncio.timeout(timeout_s):
            base = target.endpoint.rstrip("/")
            pages = [await _get(http, base + page, headers) for page in ("/discovery", "/version", "/health")]
        return Answer(target.name, read_answers(target.name, *pages), None)
    except TimeoutError:
        return Answer(target.name, None, f"no answer within {timeout_s:g} s from {target.endpoint}")
    except httpx.HTTPError as e:
        return Answer(target.name, None, f"{target.endpoint}: {str(e) or type(e).__name__}")
    except AnswerError as e:
        return Answer(target.name, None, str(e))


async def _get(http: httpx.AsyncClient, url: str, headers: dict[str, str]) -> Any:
    async with http.stream("GET", url, headers=headers) as answer:
        if answer.status_code == 401:
            raise AnswerError(f"{url}: it wants another token; set token_file to the file that holds it")
        if not answer.is_success:
            raise AnswerError(f"{url}: status {answer.status_code}")
        body = b""
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > _LIMIT:
                raise AnswerError(f"{url}: the answer is longer than {_LIMIT >> 20} MiB; is that a neuron?")
    try:
        return httpx.Response(200, content=body).json()
    except ValueError:
        raise AnswerError(f"{url} did not answer JSON; is that a neuron?") from None


def _headers(target: Target) -> dict[str, str]:
    if target.token_file is None:
        return {}
    try:
        token = Path(target.token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        reason = getattr(e, "strerror", None) or "not UTF-8"
        raise AnswerError(f"token file {target.token_file}: {reason}") from None
    if not token.isascii() or not token.isprintable() or not token:
        raise AnswerError(f"token file {target.token_file} does not hold one printable ASCII token")
    return {"authorization": f"Bearer {token}"}
