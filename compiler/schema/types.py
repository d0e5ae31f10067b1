"""Kinds of values that both files share, and how a schema says that something is not there yet."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

NOT_YET = "cortexd_not_yet"
CONTRADICTION = "cortexd_contradiction"
SECRET = "cortexd_secret"  # noqa: S105 (a kind of error)
VALUE = "cortexd_value"
MISSING = "cortexd_missing"


class Section(BaseModel):
    """Unknown keys and silently converted types are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not colon or not host or bare_ipv6 or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise PydanticCustomError(VALUE, 'must be HOST:PORT, as in "127.0.0.1:31313" or "[::1]:31313"')
    return text


def _endpoint(text: str) -> str:
    form = 'must be http://HOST:PORT, as in "http://127.0.0.1:13131"'
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise PydanticCustomError(VALUE, form) from None
    if url.scheme != "http" or not url.hostname or not port or url.path not in ("", "/") or url.query or url.fragment:
        raise PydanticCustomError(VALUE, form)
    if url.username is not None or url.password is not None:
        raise PydanticCustomError(SECRET, "must not hold a user or password; use token_file")
    return text.rstrip("/")


def _absolute(text: str) -> str:
    if not text.startswith("/") or "\n" in text or "\0" in text:
        raise PydanticCustomError(VALUE, "must be an absolute path: each process has a working directory of its own")
    return text


# Names become file names, unit names and labels of metrics.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=63)]
ModelId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$", max_length=200)]
Address = Annotated[str, AfterValidator(_address)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
