"""fleet.toml: what machines there are, who listens where, who may ask. ``docs/reference/fleet-toml.md`` in prose."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from compiler.schema.types import CONTRADICTION, MISSING, SECRET, VALUE, AbsolutePath, Address, Endpoint, Name, Section


def _database_url(text: str) -> str:
    try:
        url = urlsplit(text)
        password = url.password
    except ValueError:
        raise PydanticCustomError(VALUE, "is not a URL") from None
    if url.scheme == "sqlite":
        if not text.startswith("sqlite:///") or len(text) == len("sqlite:///") or text.endswith(":memory:"):
            raise PydanticCustomError(VALUE, "must be sqlite:///PATH; PATH is relative to the state directory")
    elif url.scheme != "postgresql+psycopg" or not url.path.strip("/"):
        raise PydanticCustomError(VALUE, "must be sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE")
    if password is not None or "password=" in url.query:
        raise PydanticCustomError(
            SECRET, "must not hold a password; put it in ~/.pgpass or a file named by ?passfile=PATH"
        )
    return text


class FleetSection(Section):
    """``name`` labels metrics and rows."""

    name: Name


class GatewaySection(Section):
    """``host``: the host that runs gateway and controller; the first one unless set. Times in seconds."""

    host: Name | None = None
    listen: Address = "127.0.0.1:31313"
    metrics_listen: Address = "127.0.0.1:31314"
    workers: int = Field(default=2, ge=1, le=256)
    body_limit_mb: int = Field(default=32, ge=1, le=4096)
    idle_timeout_s: float = Field(default=300, gt=0, allow_inf_nan=False)
    keepalive_interval_s: float = Field(default=1, gt=0, allow_inf_nan=False)
    cold_load_wait_s: float = Field(default=600, gt=0, allow_inf_nan=False)
    require_auth: bool = False


class DatabaseSection(Section):
    """A relative SQLite path lies in the state directory."""

    url: Annotated[str, AfterValidator(_database_url)] = "sqlite:///state.db"


class ControllerSection(Section):
    """How often neurons are polled, and how long an answer may take, in seconds."""

    poll_interval_s: float = Field(default=2, gt=0, allow_inf_nan=False)
    poll_timeout_s: float = Field(default=5, gt=0, allow_inf_nan=False)


class HostSection(Section):
    """A machine. ``ssh`` (USER@HOST) for those that are not this one."""

    name: Name
    address: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:\[\]_-]+$")]
    ssh: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9@.:\[\]_-]+$")] | None = None


class DeviceSection(Section):
    """A GPU or a CPU. ``memory_mb`` (MiB) is what models may use together; ``threads``: CPUs only."""

    name: Name
    kind: Literal["cpu", "cuda"]
    index: int = Field(ge=0, le=255)
    threads: int | None = Field(default=None, ge=1, le=1024)
    memory_mb: int = Field(ge=1, le=1 << 30)

    @model_validator(mode="after")
    def _threads_are_for_cpus(self) -> DeviceSection:
        if self.kind == "cpu" and self.threads is None:
            raise PydanticCustomError(
                MISSING, "a device of kind cpu needs threads: how many of the host's cores it may use"
            )
        if self.kind == "cuda" and self.threads is not None:
            raise PydanticCustomError(CONTRADICTION, "threads is for devices of kind cpu")
        return self


class NeuronSection(Section):
    """A daemon on a host. ``token_file``: a file on that host (and the gateway's) with the token it asks for."""

    name: Name
    host: Name
    endpoint: Endpoint
    token_file: AbsolutePath | None = None
    devices: list[DeviceSection] = Field(min_length=1)


class AccountSection(Section):
    """Who usage is counted for."""

    name: Name


class KeySection(Section):
    """An API key of an account: only its hash is written down."""

    id: Name
    account: Name
    secret_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class FleetFile(Section):
    """The whole file."""

    fleet: FleetSection
    gateway: GatewaySection = GatewaySection()
    database: DatabaseSection = DatabaseSection()
    controller: ControllerSection = ControllerSection()
    hosts: list[HostSection] = Field(min_length=1)
    neurons: list[NeuronSection] = Field(min_length=1)
    accounts: list[AccountSection] = Field(default_factory=list)
    keys: list[KeySection] = Field(default_factory=list)
