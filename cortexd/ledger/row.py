"""One usage row as a value: the columns of the table ``usage``, in JSON when it has to wait in the spool."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Outcome = Literal["ok", "error", "cancelled"]


@dataclass(slots=True)
class UsageRow:
    """See ``cortexd.models.ledger.Usage`` for every column. Filled while the request runs."""

    request_id: str
    started_at: float
    dialect: str
    generation: str | None = None
    requested_model: str | None = None
    model: str | None = None
    neuron: str | None = None
    account: str | None = None
    key_id: str | None = None
    streamed: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    ttft_s: float | None = None
    duration_s: float = 0.0
    tokens_per_second: float | None = None
    status: int = 0
    outcome: Outcome = "error"
    finish_reason: str | None = None
    error_code: str | None = None
    cold_start: bool = False

    def columns(self) -> dict[str, Any]:
        """Column name to value."""
        return asdict(self)

    def to_json(self) -> str:
        """One line without a line feed."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(line: str) -> UsageRow:
        """Raises ValueError for anything that ``to_json`` did not write."""
        raw = json.loads(line)
        if not isinstance(raw, dict) or set(raw) != _COLUMNS:
            raise ValueError("not a usage row")
        return UsageRow(**raw)


_COLUMNS = {f.name for f in fields(UsageRow)}
