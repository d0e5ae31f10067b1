"""``control.toml``: what gateway and controller read at start. Emitted by the compiler, so nobody writes it by hand.

Everything that may change while they run comes from the database instead.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.engine import make_url


class SettingsError(Exception):
    """A settings file that cannot be used; the message names file and key."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(_Section):
    """``url`` as declared; a relative SQLite path lies in the state directory."""

    url: str = "sqlite:///state.db"


class GatewaySettings(_Section):
    """Addresses are HOST:PORT; times in seconds. ``tls_certificate`` and ``tls_key``: PEM files, both or none."""

    listen: str = "127.0.0.1:31313"
    metrics_listen: str = "127.0.0.1:31314"
    workers: int = Field(default=2, ge=1)
    tls_certificate: str | None = None
    tls_key: str | None = None
    body_limit_mb: int = Field(default=32, ge=1)
    connect_timeout_s: float = Field(default=3, gt=0)
    idle_timeout_s: float = Field(default=300, gt=0)
    keepalive_interval_s: float = Field(default=1, gt=0)
    cold_load_wait_s: float = Field(default=600, gt=0)
    drain_s: float = Field(default=30, gt=0)
    require_auth: bool = False


class ControllerSettings(_Section):
    """How often neurons are polled, and how long one answer may take."""

    poll_interval_s: float = Field(default=2, gt=0)
    poll_timeout_s: float = Field(default=5, gt=0)


class ControlSettings(_Section):
    """The whole file."""

    database: DatabaseSettings = DatabaseSettings()
    gateway: GatewaySettings = GatewaySettings()
    controller: ControllerSettings = ControllerSettings()


def load_settings(path: Path) -> ControlSettings:
    """Read ``control.toml``. Raises SettingsError naming the file and every wrong key."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file; `cortexd apply` writes it") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise SettingsError(f"{path}: {e}") from e
    try:
        return ControlSettings.model_validate(raw)
    except ValidationError as e:
        lines = [f"{path}: {'.'.join(str(p) for p in error['loc'])}: {error['msg']}" for error in e.errors()]
        raise SettingsError("\n".join(lines)) from None


def database_url(declared: str, state_dir: Path) -> str:
    """``declared`` with a relative SQLite path made absolute under ``state_dir``."""
    url = make_url(declared)
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        url = url.set(database=str(state_dir.resolve() / url.database))
    return url.render_as_string(hide_password=False)
