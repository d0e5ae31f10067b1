"""What the requests of one worker share: snapshot, pool, ledger, cold loads, and who is busy. Built after the fork."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cortexd.gateway import metrics
from cortexd.gateway.artifacts import Artifacts
from cortexd.gateway.bridge import Commits
from cortexd.gateway.cold import ColdLoads
from cortexd.gateway.picture import Picture
from cortexd.gateway.tokens import Tokens
from cortexd.gateway.upstream import Pool
from cortexd.ledger.row import UsageRow
from cortexd.ledger.writer import UsageWriter
from cortexd.routing.snapshot import Snapshot
from cortexd.settings import ControlSettings, GatewaySettings, database_url
from cortexd.store.connect import connect

# A neuron that refused a connection comes last for this long (seconds).
DOWN_S = 2.0


class Core:
    """One per worker process. Greenlets share it without locks: nothing here switches between a read and its write."""

    def __init__(self, settings: ControlSettings, state_dir: Path) -> None:
        url = database_url(settings.database.url, state_dir)
        self.settings: GatewaySettings = settings.gateway
        self.body_limit = settings.gateway.body_limit_mb << 20
        self.pool = Pool(settings.gateway.connect_timeout_s)
        self.tokens = Tokens()
        self.picture = Picture(connect(url))
        self.cold_loads = ColdLoads(connect(url), settings.gateway.cold_load_wait_s)
        self.spool = state_dir / "spool"
        # Answers wait for this one: a locked database may hold them up for a moment, then the spool takes over.
        self.writer = UsageWriter(connect(url, busy_timeout_ms=1000), self.spool)
        self.commits = Commits(self.writer)
        self.artifacts = Artifacts(connect(url), state_dir)
        self.in_flight: Counter[tuple[str, str]] = Counter()
        self.down_until: dict[str, float] = {}

    def start(self) -> None:
        """Read the first snapshot and start the threads."""
        self.picture.start()
        self.writer.start()

    def stop(self) -> None:
        """Write what is left and end the threads. For the end of the worker."""
        self.writer.stop()
        self.picture.stop()

    @property
    def snapshot(self) -> Snapshot:
        """The fleet as it was last read."""
        return self.picture.snapshot

    def begin(self, neuron: str, model: str) -> None:
        """A request goes to a neuron."""
        self.in_flight[neuron, model] += 1
        metrics.in_flight(model, neuron, 1)

    def end(self, neuron: str, model: str) -> None:
        """It is over there."""
        self.in_flight[neuron, model] -= 1
        metrics.in_flight(model, neuron, -1)

    def settle(self, row: UsageRow) -> bool:
        """Count the request, and make its row durable where model or key are known. False when that failed."""
        metrics.count(row)
        if row.model is None and row.key_id is None:
            return True
        return self.commits.commit(row)
