"""Mode log in tests: statements, one sync, every copy held against its source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from repl_pipelines.errors import ReplicationError
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.table import Declaration, Mode, Table
from repl_pipelines.sources.contract import Changes
from repl_pipelines.sources.postgres.log.slot import name_for
from repl_pipelines.sync import run
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.log import sync_log
from repl_pipelines.sync.work import Work
from tests.sync.conftest import Bench
from tests.sync.copies import lake_rows, postgres_rows

LOG = Declaration("*", mode=Mode.LOG)
SLOT = name_for("shop")


@dataclass
class Log:
    """One replication in mode log.

    gaps: of the last sync, by table: why the stream could not continue the copy, '' where it could;
          tables that were copied whole are not in it
    """

    bench: Bench
    replication: Replication
    gaps: dict[str, str] = field(default_factory=dict[str, str])

    def sync(self, *statements: str) -> dict[str, Entry]:
        """Do these, sync, and hold every copy against its source; the entries, by table."""
        entries, failed = self.attempt(*statements)
        assert failed == {}, failed
        self.assert_equal()
        return entries

    def attempt(self, *statements: str) -> tuple[dict[str, Entry], dict[str, ReplicationError]]:
        """Do these and sync; entries and failures, by table."""
        self.bench.sql(*statements)
        self.gaps.clear()
        report = self.replication.sync()
        failed = {name.name: error for name, error in report.failed.items()}
        return {entry.table.name: entry for entry in report.entries}, failed

    def streamed(self, *statements: str) -> dict[str, Entry]:
        """As `sync`; the stream alone must have brought every table there."""
        entries = self.sync(*statements)
        assert self.gaps == dict.fromkeys(entries, ""), self.gaps
        assert {entry.reconciled for entry in entries.values()} == {0}
        return entries

    def compared(self, *statements: str, tables: str) -> dict[str, Entry]:
        """As `sync`; these tables, and no others, were compared; none was copied whole."""
        entries = self.sync(*statements)
        assert set(self.gaps) == set(entries)
        assert {name for name, gap in self.gaps.items() if gap} == set(tables.split()), self.gaps
        return entries

    def settled(self, *statements: str) -> dict[str, Entry]:
        """As `streamed`, after as many syncs as it takes to have all tables on the stream."""
        self.sync(*statements)
        self.sync()
        return self.streamed()

    def assert_equal(self, *names: str) -> None:
        for table in self.replication.source.survey(self.replication.declarations).tables:
            if not names or table.name.name in names:
                copy = lake_rows(self.bench.lake, table)
                assert copy == postgres_rows(self.bench.connection, table), table.name

    def table(self, name: str) -> Table:
        survey = self.replication.source.survey(self.replication.declarations)
        return next(table for table in survey.tables if table.name.name == name)

    def history(self, entry: Entry, columns: str) -> list[tuple]:
        """The versions that a batch wrote, in the order of the source."""
        uri = self.bench.lake.table(entry.table).uri
        files = ", ".join(f"'{uri}/{path}'" for path in entry.files)
        with self.bench.lake.session() as session:
            query = f"SELECT _rp_op, {columns} FROM read_parquet([{files}]) ORDER BY _rp_seq"
            return session.execute(query).fetchall() if files else []

    def confirmed(self) -> int:
        """Where the slot stands."""
        query = "select confirmed_flush_lsn - '0/0' from pg_replication_slots where slot_name = "
        [(position,)] = self.bench.sql(f"{query}'{SLOT}'")
        return int(position)


@contextmanager
def following(bench: Bench, *declarations: Declaration) -> Iterator[Log]:
    """A replication whose tables have been synced once."""
    log = Log(bench, bench.replication(*(declarations or (LOG,))))

    def spy(work: Work, changes: Changes, *, measure: bool) -> list[Entry]:
        log.gaps[work.table.name.name] = changes.gap
        return sync_log(work, changes, measure=measure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "sync_log", spy)
        log.sync()
        yield log
