"""fleet.toml: what machines there are, who listens where, who may ask. ``docs/reference/fleet-toml.md`` in prose."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from compiler.schema.access import AccountSection, KeySection
from compiler.schema.types import (
    CONTRADICTION,
    MISSING,
    NOT_YET,
    SECRET,
    AbsolutePath,
    Address,
    Endpoint,
    HomePath,
    InstallPath,
    Name,
    Seconds,
    Section,
    Ssh,
    wrong,
)


def _database_url(text: str) -> str:
    try:
        url = urlsplit(text)
        password = url.password
    except ValueError:
        raise wrong("is not a URL") from None
    if url.scheme == "sqlite":
        if not text.startswith("sqlite:///") or len(text) == len("sqlite:///") or text.endswith(":memory:"):
            raise wrong("must be sqlite:///PATH; PATH is relative to the state directory")
    elif url.scheme != "postgresql+psycopg" or not url.path.strip("/"):
        raise wrong("must be sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE")
    if password is not None or "password=" in url.query:
        raise wrong("must not hold a password; put it in ~/.pgpass or a file named by ?passfile=PATH", SECRET)
    return text


def _one_process(isolation: str) -> str:
    if isolation == "device":
        raise wrong(
            'cannot be "device" yet: one process serves all devices of a neuron; declare a [[neurons]] for each',
            NOT_YET,
        )
    return isolation


class FleetSection(Section):
    """The fleet as a whole."""

    name: Name
    """Labels metrics and rows."""


class GatewaySection(Section):
    """The gateway: where clients reach it, and what it allows them."""

    host: Name | None = None
    """The host that runs gateway and controller. Unless set, the first of [[hosts]]."""
    listen: Address = "127.0.0.1:31313"
    """HOST:PORT of the API. 0.0.0.0 as HOST lets other machines in."""
    metrics_listen: Address = "127.0.0.1:31314"
    """HOST:PORT of the metrics for Prometheus."""
    workers: int = Field(default=2, ge=1, le=256)
    """Gateway processes."""
    tls_certificate: AbsolutePath | None = None
    """The file with the certificate chain (PEM) that the API is served with. Needs tls_key."""
    tls_key: AbsolutePath | None = None
    """The file with the certificate's private key (PEM). Needs tls_certificate."""
    body_limit_mb: int = Field(default=32, ge=1, le=4096)
    """Larger request bodies (MiB) are refused with status 413, by gateway and neurons."""
    connect_timeout_s: Seconds = 3
    """How long a neuron may take to accept a connection; then the next replica is tried."""
    idle_timeout_s: Seconds = 300
    """How long a neuron may be silent before the request ends. There is no limit to a whole request."""
    keepalive_interval_s: Seconds = 1
    """How often a waiting client gets a sign of life."""
    cold_load_wait_s: Seconds = 600
    """How long a request waits for its model to load."""
    drain_s: Seconds = 30
    """How long running requests may go on when the gateway is stopped or restarted."""
    require_auth: bool = False
    """Serve only requests with one of the [[keys]]."""

    @model_validator(mode="after")
    def _both_or_none(self) -> GatewaySection:
        if (self.tls_certificate is None) != (self.tls_key is None):
            there, missing = ("tls_certificate", "tls_key") if self.tls_key is None else ("tls_key", "tls_certificate")
            raise wrong(f"{there} needs {missing}: TLS takes both files", MISSING)
        return self


class DatabaseSection(Section):
    """The control database."""

    url: Annotated[str, AfterValidator(_database_url)] = Field(
        default="sqlite:///state.db", json_schema_extra={"pattern": "^(sqlite:///|postgresql\\+psycopg://)."}
    )
    """sqlite:///PATH (relative to the state directory) or postgresql+psycopg://USER@HOST/DATABASE, without password."""


class ControllerSection(Section):
    """The controller: how it watches the neurons."""

    poll_interval_s: Seconds = 2
    """How often neurons are asked for their state."""
    poll_timeout_s: Seconds = 5
    """How long one answer may take."""


class EvictionSection(Section):
    """Which models leave when another one needs their memory, and when without need."""

    strategy: Literal["lru", "priority"] = "lru"
    """Who leaves first: the one unused for longest, or the one with the lowest residency_priority."""
    defrag_after_cycles: int = Field(default=0, ge=0, le=1_000_000)
    """After so many evictions a neuron's memory is cleared at a moment when nobody uses it. 0: never."""
    idle_ttl_s: Seconds | None = None
    """Models without an idle_ttl_s of their own leave after so long without a request. Unless set, they stay."""


class RetentionSection(Section):
    """How long rows are kept."""

    usage_days: int | None = Field(default=None, ge=1, le=36_500)
    """Usage rows older than this are deleted. Unless set, they are kept."""
    decision_days: int = Field(default=30, ge=1, le=36_500)
    """Decisions older than this are deleted."""


class MonitoringSection(Section):
    """Which monitoring files a generation holds."""

    prometheus: bool = True
    """Write monitoring/prometheus.yml and monitoring/alerts.yml."""
    grafana: bool = True
    """Write monitoring/grafana-cortexd.json."""


class SystemdSection(Section):
    """Where units find the programs."""

    prefix: InstallPath = "/opt/cortexd"
    """The folder whose bin/ holds the programs in system mode."""
    user_prefix: HomePath = ".local/share/cortexd"
    """The same for user mode, relative to the home directory."""


class HostSection(Section):
    """A machine."""

    name: Name
    """Unique in the fleet."""
    address: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:\[\]_-]+$")]
    """IP address or host name, for people and monitoring."""
    ssh: Ssh | None = None
    """How `cortexd apply` reaches it: HOST, USER@HOST or ssh://USER@HOST:PORT. Unless set, the host pulls."""
    prefix: InstallPath | None = None
    """Another [systemd] prefix for this host."""


class DeviceSection(Section):
    """A GPU, or a CPU that stands in for one."""

    name: Name
    """Unique in the neuron, for example cuda-0."""
    kind: Literal["cpu", "cuda"]
    """What it is."""
    index: int = Field(ge=0, le=255)
    """The GPU's number. Unique per kind."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """How many of the host's cores a device of kind cpu may use. Required there, refused for cuda."""
    memory_mb: int = Field(ge=1, le=1 << 30)
    """What all models on it may take together (MiB). Placement is proven against this."""

    @model_validator(mode="after")
    def _threads_are_for_cpus(self) -> DeviceSection:
        if self.kind == "cpu" and self.threads is None:
            raise wrong("a device of kind cpu needs threads: how many of the host's cores it may use", MISSING)
        if self.kind == "cuda" and self.threads is not None:
            raise wrong("threads is for devices of kind cpu", CONTRADICTION)
        return self


class NeuronSection(Section):
    """A daemon that runs models on the devices of a host."""

    name: Name
    """Unique in the fleet."""
    host: Name
    """The host that it runs on."""
    endpoint: Endpoint
    """http://HOST:PORT: where the gateway reaches it, and what it listens on."""
    token_file: AbsolutePath | None = None
    """The file with the token that it asks for, on its host and the gateway's."""
    isolation: Annotated[Literal["process", "device"], AfterValidator(_one_process)] = "process"
    """process: one process serves all devices."""
    devices: list[DeviceSection] = Field(min_length=1)
    """What it runs models on."""


class FleetFile(Section):
    """fleet.toml of cortexd: what machines there are, who listens where, and who may ask."""

    fleet: FleetSection
    gateway: GatewaySection = GatewaySection()
    database: DatabaseSection = DatabaseSection()
    controller: ControllerSection = ControllerSection()
    eviction: EvictionSection = EvictionSection()
    retention: RetentionSection = RetentionSection()
    monitoring: MonitoringSection = MonitoringSection()
    systemd: SystemdSection = SystemdSection()
    hosts: list[HostSection] = Field(min_length=1)
    """The machines."""
    neurons: list[NeuronSection] = Field(min_length=1)
    """The daemons that run models."""
    accounts: list[AccountSection] = Field(default_factory=list)
    """Who usage is counted for."""
    keys: list[KeySection] = Field(default_factory=list)
    """Who may ask."""
