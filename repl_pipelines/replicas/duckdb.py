"""The DuckDB replica: a file that readers open by one name, replaced at every sync by a newer one.

A sync opens a file that is not published, brings it from its own sync number to the lake's newest
in one transaction, closes it cleanly and swaps the link (see `duckdb_files`). The file published
before is the next one to be written to. Whatever kills a sync, the published file is untouched.

Tables have no primary key: DuckDB would keep its index in memory and write every change to it,
while deleting by key is one hash join over the key columns.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from repl_pipelines import duck
from repl_pipelines.errors import DeclarationError, ReplicaUnavailable
from repl_pipelines.failpoints import reach
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.diagnosis import Diagnosis, examined, well
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.model.trace import Trace
from repl_pipelines.proof.relation import ALL, Relation, duckdb_relation
from repl_pipelines.replicas import duckdb_merge, duckdb_undo
from repl_pipelines.replicas.contract import Applied, Correction, View
from repl_pipelines.replicas.corrections import held
from repl_pipelines.replicas.duckdb_diagnosis import diagnose
from repl_pipelines.replicas.duckdb_files import ReplicaFiles
from repl_pipelines.replicas.duckdb_rewrite import rewrite
from repl_pipelines.replicas.duckdb_spare import discard, open_copy, open_spare
from repl_pipelines.replicas.duckdb_state import CATALOG, STATE_SCHEMA, read_state, write_state
from repl_pipelines.replicas.news import Held, News, State, Step, Way

_UNAVAILABLE = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.ConnectionException,
    duckdb.OutOfMemoryException,
    duckdb.TransactionException,  # a commit that the disk refused
)


@dataclass
class DuckDBReplica:
    """`<directory>/<name>.duckdb`, holding the tables of `replication`.

    patience: seconds an apply waits for another one to end
    """

    name: str
    directory: Path
    replication: str
    patience: float = 60.0

    kind = "duckdb"

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set("./\\"):
            raise DeclarationError(
                f"{self.name!r} cannot name a DuckDB replica.", "Use a name without dot and slash."
            )
        self.files = ReplicaFiles(Path(self.directory), self.name)

    def diagnose(self, tables: Sequence[Table]) -> Sequence[Diagnosis]:
        def look() -> Iterator[Diagnosis]:
            self.check(tables)
            yield from diagnose(self.files.directory, sum(table.bytes for table in tables))
            sync = self.sync_number()
            yield well("state", f"it stands at sync {sync}" if sync else "it is empty yet")

        return examined("files", look)

    def sync_number(self) -> int:
        with self._reader() as session:
            return read_state(session, self.replication, str(self.files.link)).sync

    def check(self, tables: Sequence[Table]) -> None:
        """Refuse names that DuckDB, which ignores case, cannot tell apart."""
        seen: dict[str, str] = {}
        for table in tables:
            if table.name.schema.casefold() in (STATE_SCHEMA, "information_schema", "pg_catalog"):
                raise DeclarationError(
                    f"Schema {table.name.schema} of {table.name} is taken in a DuckDB replica.",
                    "Leave the table out, or replicate it to another kind of replica.",
                )
            _distinct(seen, str(table.name), "Tables", "leave one out of this replication")
            columns: dict[str, str] = {}
            for column in table.columns:
                what = f"Columns of {table.name}"
                _distinct(columns, column.name, what, "rename one in the source")

    def apply(self, lake: Lake, tables: Sequence[Table], run: str) -> Mapping[TableName, Applied]:
        self.check(tables)
        with self.files.lock(self.patience):
            if self.files.published() is None:
                for path in self.files.unpublished():  # of a first sync that never ended
                    self.files.discard(path)
            with self._reader() as reader:
                before = read_state(reader, self.replication, str(self.files.link))
            with closing(lake.own_session()) as session:
                _make_room(session, lake, tables)
                return self._apply(session, lake, tables, before, run)

    def correct(self, lake: Lake, correction: Correction, run: str) -> int:
        with self.files.lock(self.patience), closing(lake.own_session()) as session:
            _make_room(session, lake, [correction.table])
            copy = open_copy(session, self.files, self.replication)
            try:
                with _translated(copy.path):
                    changed = self._correct(session, lake, correction, copy.state, run)
            except Exception:
                session.close()
                self.files.discard(copy.path)
                raise
            self.files.publish(copy.path)
            for path in self.files.unpublished():  # the next sync must not go on from a damaged one
                self.files.discard(path)
            return changed

    def forget(self, tables: Sequence[Table]) -> None:
        """See `replicas.contract.Replica`; who still has an old file open keeps it until then."""
        with (
            self.files.lock(self.patience),
            closing(duck.connect()) as session,
            _translated(self.files.link),
        ):
            widest = max((len(table.columns) for table in tables), default=0)
            session.execute(f"SET memory_limit = '{max(384, 2 * widest)}MiB'")
            rewrite(session, self.files)

    @contextmanager
    def view(self) -> Generator[View]:
        with self._reader() as session, _translated(self.files.link):
            state = read_state(session, self.replication, str(self.files.link))
            yield _DuckDBView(session, state)

    def traces(self) -> Sequence[Trace]:
        with self._reader() as session:
            read_state(session, self.replication, str(self.files.link))
        return [Trace("file", str(path), path.lstat().st_size) for path in self.files.all()]

    def rename(self, replication: str) -> None:
        with self.files.lock(self.patience):
            duckdb_undo.rename(self.files, self.replication, replication)

    def remove(self) -> None:
        with self.files.lock(self.patience):
            for trace in self.traces():
                Path(trace.name).unlink(missing_ok=True)

    def read_sql(self, table: Table) -> str:
        name = f"{quote(table.name.schema)}.{quote(table.name.name)}"
        return (
            f"ATTACH {literal(str(self.files.link))} AS {CATALOG} (READ_ONLY);\n"
            f"SELECT * FROM {CATALOG}.{name};"
        )

    def _apply(
        self,
        session: duckdb.DuckDBPyConnection,
        lake: Lake,
        tables: Sequence[Table],
        before: State,
        run: str,
    ) -> Mapping[TableName, Applied]:
        spare = open_spare(session, self.files, self.replication)
        news = News.read(lake.journal, [before, spare.state], tables)
        lacking = _steps(news, before, tables)
        if news.sync == before.sync and all(step.way is Way.NOTHING for step in lacking):
            session.execute(f"DETACH {CATALOG}")
            return {s.table.name: _applied(s, news.sync, before.tables) for s in lacking}
        if not _same_rest(before, spare.state, lacking):
            discard(session, self.files, spare)
            spare = open_copy(session, self.files, self.replication)
        try:
            with _translated(spare.path):
                written = self._write(session, lake, news, spare.state, tables=tables, run=run)
        except Exception:
            # Nobody reads it, and a copy of the published file is as good as it was.
            session.close()
            self.files.discard(spare.path)
            raise
        reach("replica.committed")
        self.files.publish(spare.path)
        reach("replica.published")
        return {step.table.name: _applied(step, news.sync, written) for step in lacking}

    def _correct(
        self,
        session: duckdb.DuckDBPyConnection,
        lake: Lake,
        correction: Correction,
        state: State,
        run: str,
    ) -> int:
        """Correct the attached file in one transaction, and close it; rows written."""
        before = held(state, correction, self.name)
        session.execute("BEGIN")
        changed, rows = duckdb_merge.correct(session, lake, correction)
        record = {correction.table.name: replace(before, rows=rows)}
        write_state(session, self.replication, state, run, record)
        session.execute("COMMIT")
        session.execute(f"CHECKPOINT {CATALOG}")
        session.execute(f"DETACH {CATALOG}")
        return changed

    def _write(
        self,
        session: duckdb.DuckDBPyConnection,
        lake: Lake,
        news: News,
        state: State,
        *,
        tables: Sequence[Table],
        run: str,
    ) -> Mapping[TableName, Held]:
        """Bring the attached file to `news`, all tables in one transaction, and close it."""
        steps = [
            duckdb_merge.stage(session, lake, step, number)
            for number, step in enumerate(_steps(news, state, tables))
        ]
        reach("replica.staged")
        lake.journal.refuse_paused()
        session.execute("BEGIN")
        records: dict[TableName, Held] = {}
        for number, step in enumerate(steps):
            before = state.tables.get(step.table.name)
            rows = duckdb_merge.merge(session, lake, step, number, before.rows if before else 0)
            records[step.table.name] = Held(news.sync, duckdb_merge.shape(step.table), rows)
        write_state(session, self.replication, news, run, records)
        reach("replica.merged")
        session.execute("COMMIT")
        session.execute(f"CHECKPOINT {CATALOG}")
        session.execute(f"DETACH {CATALOG}")
        return records

    @contextmanager
    def _reader(self) -> Generator[duckdb.DuckDBPyConnection]:
        """A session with the published file, or an empty database, attached as `CATALOG`.

        Attached, not opened: one process opens a file in one configuration only, and whoever reads
        this file beside us chooses theirs.
        """
        published = self.files.published()
        file, way = (str(published), " (READ_ONLY)") if published else (":memory:", "")
        with closing(duck.connect()) as session:
            with _translated(self.files.link):
                session.execute(f"ATTACH {literal(file)} AS {CATALOG}{way}")
            yield session


@dataclass(frozen=True)
class _DuckDBView:
    """The file that was published when the view was opened; it stays as it is."""

    session: duckdb.DuckDBPyConnection
    state: State

    @property
    def sync(self) -> int:
        return self.state.sync

    def figures(self, table: Table, *, buckets: int | None = None) -> Figures:
        relation = self.relation(table)
        return relation.figures(ALL, buckets) if relation else Figures({})

    def relation(self, table: Table) -> Relation | None:
        known = self.state.tables.get(table.name)
        if known is None or known.shape != duckdb_merge.shape(table):
            return None
        return duckdb_relation(self.session, table, duckdb_merge.target(table))


def _make_room(session: duckdb.DuckDBPyConnection, lake: Lake, tables: Sequence[Table]) -> None:
    """Writing takes DuckDB several buffers of 256 KiB a column, however few the rows are.

    A checkpoint of a row group with deleted rows beside new ones takes the most.
    """
    widest = max((len(table.columns) for table in tables), default=0)
    memory = max(lake.limits.memory, widest * 2 * 2**20)
    session.execute(f"SET memory_limit = '{memory // 2**20}MiB'")


def _steps(news: News, state: State, tables: Sequence[Table]) -> list[Step]:
    steps = (news.step(t, state.tables.get(t.name), duckdb_merge.shape(t)) for t in tables)
    return [step for step in steps if step is not None]


def _applied(step: Step, sync: int, held: Mapping[TableName, Held]) -> Applied:
    rows, reloaded = held[step.table.name].rows, step.way is Way.RELOAD
    return Applied(step.table.name, sync, rows if reloaded else step.changed, rows, reloaded)


def _same_rest(before: State, spare: State, steps: Sequence[Step]) -> bool:
    """Whether both files hold the same of the tables that this sync does not move."""
    moved = {step.table.name for step in steps}
    return all(spare.tables.get(n) == h for n, h in before.tables.items() if n not in moved)


def _distinct(seen: dict[str, str], name: str, what: str, remedy: str) -> None:
    other = seen.setdefault(name.casefold(), name)
    if seen and other is not name:
        raise DeclarationError(
            f"{what} {other} and {name} differ only in case; DuckDB cannot hold both.",
            f"To replicate to DuckDB, {remedy}.",
        )


@contextmanager
def _translated(path: Path) -> Generator[None]:
    """DuckDB's errors over the replica's file as errors of the engine."""
    try:
        yield
    except _UNAVAILABLE as error:
        raise ReplicaUnavailable(
            f"The DuckDB replica {path} could not be used: {error}.",
            "Free disk space or memory, or release the file; nothing was applied.",
        ) from error
