"""The PostgreSQL replica: ordinary tables, all moved by one transaction that also records the sync.

What a sync brings is first staged in temporary tables of its session, where nobody is disturbed and
a crash leaves nothing. Then one transaction merges every table and writes the state. Readers see
the rows of before until it commits and are blocked only where a table's shape has changed.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field

import psycopg

from repl_pipelines.errors import DeclarationError
from repl_pipelines.failpoints import reach
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.diagnosis import Diagnosis, examined, well
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.model.trace import Trace
from repl_pipelines.proof.relation import ALL, Relation
from repl_pipelines.replicas import postgres_undo
from repl_pipelines.replicas.contract import Applied, Correction, View
from repl_pipelines.replicas.corrections import held
from repl_pipelines.replicas.news import News, State, Way
from repl_pipelines.replicas.postgres_diagnosis import diagnose
from repl_pipelines.replicas.postgres_merge import Merge, qualified, shape
from repl_pipelines.replicas.postgres_rewrite import rewrite
from repl_pipelines.replicas.postgres_rows import correct, relation
from repl_pipelines.replicas.postgres_session import Connection, connect, lock, locked
from repl_pipelines.replicas.postgres_stage import fill, stage_rows
from repl_pipelines.replicas.postgres_state import STATE_SCHEMA, Record, read_state, write_state


@dataclass
class PostgresReplica:
    """The database `dsn`, holding the tables of `replication` under the source's schemas.

    patience: seconds an apply waits for another one, or for a lock that somebody holds
    """

    name: str
    dsn: str = field(repr=False)
    replication: str
    patience: float = 60.0

    kind = "postgres"

    def diagnose(self, tables: Sequence[Table]) -> Sequence[Diagnosis]:
        def look() -> Iterator[Diagnosis]:
            self.check(tables)
            with self._connect() as connection:
                yield from diagnose(connection, self.name)
                sync = read_state(connection, self.replication, self.name).sync
                yield well("state", f"it stands at sync {sync}" if sync else "it is empty yet")

        return examined("connection", look)

    def sync_number(self) -> int:
        with self._connect() as connection:
            return read_state(connection, self.replication, self.name).sync

    def check(self, tables: Sequence[Table]) -> None:
        """Refuse schemas that a PostgreSQL replica cannot have."""
        for table in tables:
            schema = table.name.schema
            if schema in (STATE_SCHEMA, "information_schema") or schema.startswith("pg_"):
                raise DeclarationError(
                    f"Schema {schema} of {table.name} is taken in a PostgreSQL replica.",
                    "Leave the table out, or replicate it to another kind of replica.",
                )

    def apply(self, lake: Lake, tables: Sequence[Table], run: str) -> Mapping[TableName, Applied]:
        self.check(tables)
        with self._connect() as connection:
            lock(connection, self.name)
            state = read_state(connection, self.replication, self.name)
            news = News.read(lake.journal, [state], tables)
            merges = [
                Merge(connection, step, state.tables.get(table.name))
                for table in tables
                if (step := news.step(table, state.tables.get(table.name), shape(table)))
            ]
            if news.sync != state.sync or any(m.step.way is not Way.NOTHING for m in merges):
                self._write(connection, lake, news, merges, run)
            return {merge.step.table.name: merge.applied(news.sync) for merge in merges}

    def correct(self, lake: Lake, correction: Correction, run: str) -> int:
        table = correction.table
        with self._connect() as connection, closing(lake.session()) as session:
            lock(connection, self.name)
            state = read_state(connection, self.replication, self.name)
            held(state, correction, self.name)
            stage = stage_rows(connection, session, lake, correction)
            with connection.transaction():
                changed, rows = correct(connection, correction, stage)
                record = Record(table.name, shape(table), rows)
                write_state(connection, self.replication, state, run, [record])
        return changed

    def forget(self, tables: Sequence[Table]) -> None:
        with self._connect() as connection:
            lock(connection, self.name)
            state = read_state(connection, self.replication, self.name)
            for table in tables:
                if table.name in state.tables:
                    rewrite(connection, table.name, self.name, self.patience)

    @contextmanager
    def view(self) -> Generator[View]:
        with self._connect() as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            with connection.transaction():
                yield _PostgresView(connection, read_state(connection, self.replication, self.name))

    def traces(self) -> Sequence[Trace]:
        with self._connect() as connection:
            state = read_state(connection, self.replication, self.name)
            return list(postgres_undo.traces(connection, state))

    def rename(self, replication: str) -> None:
        with self._connect() as connection:
            lock(connection, self.name)
            postgres_undo.rename(connection, self.replication, replication, self.name)

    def remove(self) -> None:
        with self._connect() as connection:
            lock(connection, self.name)
            state = read_state(connection, self.replication, self.name)
            postgres_undo.remove(connection, state, self.name)

    def read_sql(self, table: Table) -> str:
        return f"SELECT * FROM {quote(table.name.schema)}.{quote(table.name.name)};"

    def _write(
        self,
        connection: Connection,
        lake: Lake,
        news: News,
        merges: Sequence[Merge],
        run: str,
    ) -> None:
        """Stage what the lake has, then merge all tables and the state in one transaction."""
        with closing(lake.session()) as session:
            for number, merge in enumerate(merges):
                merge.step, merge.stage = fill(connection, session, lake, merge.step, number)
        reach("replica.staged")
        lake.journal.refuse_paused()
        merging = STATE_SCHEMA
        try:
            with connection.transaction():
                for merge in merges:
                    merging = qualified(merge.step.table.name)
                    merge.carry_out()
                records = [merge.record() for merge in merges]
                write_state(connection, self.replication, news, run, records)
                reach("replica.merged")
        except psycopg.errors.LockNotAvailable as error:
            raise locked(connection, merging, self.name) from error
        reach("replica.committed")

    def _connect(self) -> AbstractContextManager[Connection]:
        application = f"repl_pipelines {self.replication}"
        return connect(self.dsn, self.name, application, self.patience)


@dataclass(frozen=True)
class _PostgresView:
    """One transaction of one snapshot."""

    connection: Connection
    state: State

    @property
    def sync(self) -> int:
        return self.state.sync

    def figures(self, table: Table, *, buckets: int | None = None) -> Figures:
        relation = self.relation(table)
        return relation.figures(ALL, buckets) if relation else Figures({})

    def relation(self, table: Table) -> Relation | None:
        known = self.state.tables.get(table.name)
        if known is None or known.shape != shape(table):
            return None
        return relation(self.connection, table)
