"""Kinds of values that both files share, and how a schema says that something is not there yet.

What a validator checks in code is also said as ``pattern`` or ``examples``, for the editors that complete from it.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

NOT_YET = "cortexd_not_yet"
CONTRADICTION = "cortexd_contradiction"
SECRET = "cortexd_secret"  # noqa: S105 (a kind of error)
VALUE = "cortexd_value"
MISSING = "cortexd_missing"


class Section(BaseModel):
    """Unknown keys and silently converted types are mistakes. The text below a key is its description for editors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def wrong(message: str, kind: str = VALUE) -> PydanticCustomError:
    """A finding about one value (``message`` goes on after the key's name), or about a whole entry."""
    return PydanticCustomError(kind, "{message}", {"message": message})


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not colon or not host or bare_ipv6 or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise wrong('must be HOST:PORT, as in "127.0.0.1:31313" or "[::1]:31313"')
    return text


def _endpoint(text: str) -> str:
    form = 'must be http://HOST:PORT, as in "http://127.0.0.1:13131"'
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise wrong(form) from None
    if url.scheme != "http" or not url.hostname or not port or url.path not in ("", "/") or url.query or url.fragment:
        raise wrong(form)
    if url.username is not None or url.password is not None:
        raise wrong("must not hold a user or password; use token_file", SECRET)
    return text.rstrip("/")


def _ssh(text: str) -> str:
    form = "must be HOST, USER@HOST or ssh://USER@HOST:PORT"
    try:
        url = urlsplit(text if "://" in text else f"ssh://{text}")
        port = url.port
    except ValueError:
        raise wrong(form) from None
    if url.password is not None:
        raise wrong("must not hold a password; OpenSSH takes its key from the agent or ~/.ssh", SECRET)
    if url.scheme != "ssh" or not url.hostname or url.path or url.query or url.fragment or (port and "://" not in text):
        raise wrong(form)
    # Never an option of ssh's, never anything that a shell would look into.
    if not all(c.isalnum() or c in "@.:[]_-/" for c in text) or (url.username or "x")[0] == "-" or text[0] in "-@":
        raise wrong(form)
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/") or "\n" in text or "\0" in text:
        raise wrong("must be an absolute path: each process has a working directory of its own")
    return text


# Names become file names, unit names and labels of metrics.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=63)]
ModelId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$", max_length=200)]
Address = Annotated[str, AfterValidator(_address), Field(json_schema_extra={"pattern": ":[0-9]+$"})]
Endpoint = Annotated[str, AfterValidator(_endpoint), Field(json_schema_extra={"pattern": "^http://.+:[0-9]+/?$"})]
Ssh = Annotated[str, AfterValidator(_ssh), Field(examples=["box1.lab", "admin@box1.lab", "ssh://admin@box1.lab:2222"])]
AbsolutePath = Annotated[str, AfterValidator(_absolute), Field(json_schema_extra={"pattern": "^/"})]
# Paths that units name: nothing in them that systemd would expand or split at.
InstallPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/@+-]*$")]
HomePath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._@+-]+(/[A-Za-z0-9._@+-]+)*$")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
