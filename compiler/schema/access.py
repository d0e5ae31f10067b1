"""``[[accounts]]`` and ``[[keys]]``: who may ask, for what, and how much."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from compiler.schema.types import CONTRADICTION, MISSING, AbsolutePath, ModelId, Name, Section, wrong

# The ways to say where a key's secret is.
SECRETS = ("secret_sha256", "secret_env", "secret_file", "secret_credential")


class WindowSection(Section):
    """Over which time hard_cap counts."""

    kind: Literal["balance", "rolling"]
    """balance: hard_cap is all there ever is. rolling: it is for the last `seconds` at any time."""
    seconds: int | None = Field(default=None, ge=1, le=366 * 86400)
    """The length of a rolling window."""

    @model_validator(mode="after")
    def _seconds_are_for_rolling(self) -> WindowSection:
        if self.kind == "rolling" and self.seconds is None:
            raise wrong('a rolling window needs seconds, as in { kind = "rolling", seconds = 86400 }', MISSING)
        if self.kind == "balance" and self.seconds is not None:
            raise wrong("a window of kind balance has no end, so seconds means nothing; leave it out", CONTRADICTION)
        return self


class Limits(Section):
    """What an account or a key may use; without a limit, as much as it likes."""

    hard_cap: int | None = Field(default=None, ge=0)
    """Tokens, prompt and answer together; requests beyond are refused."""
    window: WindowSection | None = None
    """Over which time hard_cap counts. Unless set, { kind = "balance" }."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests in any minute."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens, prompt and answer together, in any minute."""
    max_concurrent: int | None = Field(default=None, ge=1)
    """Requests at the same time."""

    @model_validator(mode="after")
    def _a_window_is_for_a_cap(self) -> Limits:
        if self.window is not None and self.hard_cap is None:
            raise wrong("window says over which time hard_cap counts, and there is no hard_cap", CONTRADICTION)
        return self


class AccountSection(Limits):
    """Who usage is counted for. Its limits are for all of its keys together."""

    name: Name
    """Unique in the fleet."""


class KeySection(Limits):
    """An API key of an account: where its secret is, never the secret itself."""

    id: Name
    """The key's public name."""
    account: Name
    """The account that it belongs to."""
    secret_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The SHA-256 of the key: printf %s "$KEY" | sha256sum"""
    secret_env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable of the gateway that holds the key."""
    secret_file: AbsolutePath | None = None
    """The file on the gateway's host that holds the key."""
    secret_credential: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=255)] | (
        None
    ) = None
    """The systemd credential of the gateway's unit that holds the key."""
    models: list[ModelId] | None = Field(default=None, min_length=1)
    """Models (or aliases) that it may ask for. Unless set, all."""

    @model_validator(mode="after")
    def _exactly_one_secret(self) -> KeySection:
        given = [name for name in SECRETS if getattr(self, name) is not None]
        if not given:
            raise wrong(f"a key needs one of {', '.join(SECRETS[:-1])} or {SECRETS[-1]}", MISSING)
        if len(given) > 1:
            raise wrong(f"a key has one secret, and {' and '.join(given)} name several", CONTRADICTION)
        return self
