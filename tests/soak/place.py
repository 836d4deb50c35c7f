"""Where the soak's processes find their source, lake and replicas: one file in its directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from repl_pipelines.duck import Limits
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.model.table import Declaration, Mode, TimePartition
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication

NAME = "shop"
MEMORY = 128 * 2**20  # of each DuckDB, so that what is not flat shows soon
# Every mode, as the demo has them.
DECLARATIONS = (
    Declaration("*"),
    Declaration("customers", mode=Mode.CURSOR, cursor="updated_at"),
    Declaration("products", mode=Mode.CURSOR, cursor="updated_at"),
    *(Declaration(name, mode=Mode.LOG) for name in ("orders", "order_lines", "shipments")),
    Declaration("billing.*", mode=Mode.LOG),
    Declaration("events", partition=TimePartition("occurred_at"), mode=Mode.PARTITION),
)


@dataclass(frozen=True)
class Place:
    """directory: scratch, logs and the DuckDB replica; store: through the proxy that breaks it."""

    directory: str
    source: str
    copy: str
    bucket: str
    endpoint_url: str
    access_key: str
    secret_key: str

    @property
    def scratch(self) -> Path:
        """TMPDIR of our processes."""
        return Path(self.directory) / "scratch"

    @property
    def duckdb(self) -> Path:
        return Path(self.directory) / "replica"

    def save(self) -> Path:
        path = Path(self.directory) / "place.json"
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def load(cls, path: Path) -> Place:
        return cls(**json.loads(path.read_text()))

    def lake(self) -> Lake:
        store = Store(
            bucket=self.bucket,
            endpoint_url=self.endpoint_url,
            access_key=self.access_key,
            secret_key=self.secret_key,
        )
        return Lake(store, NAME, Limits(memory=MEMORY))

    def replication(self) -> Replication:
        return Replication(
            NAME,
            PostgresSource(NAME, self.source, limits=Limits(memory=MEMORY)),
            self.lake(),
            [
                DuckDBReplica("duckdb", self.duckdb, NAME),
                PostgresReplica("postgres", self.copy, NAME),
            ],
            DECLARATIONS,
        )
