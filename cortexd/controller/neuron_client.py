"""HTTP to one neuron: poll, describe, load, unload. Every call has a timeout; every failure is a NeuronError."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx

from cortexd.controller.report import Report, ReportError, parse_report
from cortexd.credentials import token_file
from cortexd.store.observations import NeuronTarget

# A load reads and compiles a whole model; the neuron answers when it is done.
LOAD_TIMEOUT_S = 1800.0
UNLOAD_TIMEOUT_S = 120.0


class NeuronError(Exception):
    """A call that did not succeed; the message is fit for rows and clients (no token, no header)."""


class NeuronClient:
    """Calls to the neuron of ``target``. ``http`` is shared by all; relative token files lie in ``state_dir``."""

    def __init__(self, http: httpx.AsyncClient, target: NeuronTarget, state_dir: Path, timeout_s: float) -> None:
        self.target = target
        self._base = target.endpoint.rstrip("/")
        self._http = http
        self._timeout_s = timeout_s
        self._token_file = None if target.token_ref is None else state_dir / token_file(target.name, target.token_ref)

    async def poll(self) -> Report:
        """``/health`` and ``/models``; both within one poll timeout."""
        try:
            async with asyncio.timeout(self._timeout_s):
                health, models = await self._get("/health"), await self._get("/models")
        except TimeoutError:
            raise NeuronError(f"no answer within {self._timeout_s:g} s") from None
        try:
            return parse_report(health, models)
        except ReportError as e:
            raise NeuronError(str(e)) from None

    async def describe(self) -> dict[str, Any]:
        """``/discovery`` and ``/version``: what does not change while a neuron runs. An absent route is left out."""
        found: dict[str, Any] = {}
        for name in ("discovery", "version"):
            try:
                async with asyncio.timeout(self._timeout_s):
                    found[name] = await self._get("/" + name)
            except (TimeoutError, NeuronError):
                continue
        return found

    async def load(self, model: str) -> None:
        """Returns when the model is loaded."""
        await self._post("/models/load", model, LOAD_TIMEOUT_S)

    async def unload(self, model: str) -> None:
        """Returns when the model is gone. A model that is not there is gone."""
        await self._post("/models/unload", model, UNLOAD_TIMEOUT_S, gone=True)

    async def _post(self, path: str, model: str, timeout_s: float, *, gone: bool = False) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._http.post(self._base + path, json={"model_id": model}, headers=self._headers())
        except TimeoutError:
            raise NeuronError(f"{path} of {model} did not end within {timeout_s:g} s") from None
        except httpx.HTTPError as e:
            raise NeuronError(f"{path} of {model}: {_describe(e)}") from None
        if answer.is_success or (gone and answer.status_code == 404):
            return
        raise NeuronError(_message(answer))

    async def _get(self, path: str) -> Any:
        try:
            answer = await self._http.get(self._base + path, headers=self._headers())
        except httpx.HTTPError as e:
            raise NeuronError(f"{path}: {_describe(e)}") from None
        if not answer.is_success:
            raise NeuronError(f"{path}: status {answer.status_code}: {_message(answer)}")
        try:
            return answer.json()
        except ValueError:
            raise NeuronError(f"{path} did not answer JSON") from None

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:  # a small local file, read each time so that a new token needs no restart
            token = self._token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise NeuronError(f"token file {self._token_file}: {getattr(e, 'strerror', None) or 'not UTF-8'}") from None
        if not token.isascii() or not token.isprintable() or not token:
            raise NeuronError(f"token file {self._token_file} does not hold one printable ASCII token")
        return {"authorization": f"Bearer {token}"}


def _describe(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__


def _message(answer: httpx.Response) -> str:
    """The message of an error body, whichever of the two forms it has."""
    try:
        error = answer.json()["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        text = f"status {answer.status_code}"
    return str(text)[:500]
