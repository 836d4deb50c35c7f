"""The binary log in tests: statements, one reading, and what it told held against the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from repl_pipelines import duck
from repl_pipelines.model.column import Column
from repl_pipelines.model.position import Position
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.proof.canonical import duckdb_canonical
from repl_pipelines.sources.contract import Changes
from repl_pipelines.sources.mariadb import values
from repl_pipelines.sources.mariadb.connection import Address, Connection, Protection, connect, rows
from repl_pipelines.sources.mariadb.log.anchor import order
from repl_pipelines.sources.mariadb.log.reading import LogReading
from repl_pipelines.sources.mariadb.source import MariadbSource
from tests.family import spelled

Row = tuple[str, ...]
# Where the log ends, and what it has, when nobody writes.
_WHERE = {
    "mariadb": ("show master status", "select @@gtid_binlog_pos"),
    "mysql": ("show binary log status", "select @@global.gtid_executed"),
}


@dataclass
class Binlog:
    """A database and copies of its tables that follow its log, as texts, by key."""

    address: Address
    directory: Path
    source: MariadbSource = field(init=False)
    session: Connection = field(init=False)
    beside: Connection = field(init=False)  # may look while `session` is in a transaction
    declaration: Declaration = field(default_factory=lambda: Declaration("*", mode=Mode.LOG))
    horizons: dict[TableName, str] = field(default_factory=dict)
    copies: dict[str, dict[Row, Row]] = field(default_factory=dict)
    history: dict[str, list[Row]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source = MariadbSource("shop", self.address)
        self.session, self.beside = self.connect(), self.connect()
        self.engine = duck.connect()

    def connect(self) -> Connection:
        return connect(self.address, Protection(), "test")

    def reconnect(self) -> None:
        """After the server has gone, and come back."""
        self.session, self.beside = self.connect(), self.connect()

    def close(self) -> None:
        for connection in (self.session, self.beside):
            connection.close()
        self.engine.close()

    def sql(self, *statements: str) -> list[tuple]:
        found: list[tuple] = []
        for statement in statements:
            found = list(rows(self.session, spelled(self.address, statement)))
        return found

    def tables(self) -> list[Table]:
        return list(self.source.survey([self.declaration]).tables)

    def position(self) -> Position:
        statement, ours = _WHERE[self.address.dialect.kind]
        [(file, offset, *_)] = rows(self.beside, statement)
        [(gtid,)] = rows(self.beside, ours)
        token = {"gtid": gtid, "file": file, "offset": str(offset)}
        return Position(datetime.now(UTC), order(file, int(offset)), token)

    def read(
        self, *statements: str, horizons: Mapping[TableName, str] | None = None
    ) -> dict[str, Changes]:
        """Do these, and read the log; what it says of each table."""
        self.sql(*statements)
        tables = self.tables()
        known = self.horizons if horizons is None else horizons
        reading = LogReading.prepare(
            self.source.connection, "shop", tables, known, duck.Instance(())
        )
        batches = {table.name: 1 for table in tables}
        changes = reading.read(self.position(), batches, self.directory)
        self.horizons = {name: anchor.to_text() for name, anchor in reading.anchors.items()}
        return {name.name: changes[name] for name in changes}

    def copy(self) -> None:
        """Copy all tables, and anchor them."""
        self.read(horizons={})
        self.copies = {table.name.name: self.rows(table) for table in self.tables()}

    def follow(self, *statements: str) -> dict[str, Changes]:
        """Do these, apply what the log tells, and expect the copies to equal the tables."""
        found = self.read(*statements)
        for table in self.tables():
            name = table.name.name
            changes = found[name]
            assert (changes.problem, changes.gap, changes.misfits) == (None, "", {})
            self.history[name] = list(self._apply(table, changes))
            copy, rows_ = self.copies[name], self.rows(table)
            assert copy.keys() == rows_.keys(), name
            for key in copy:
                kinds = zip(table.columns, copy[key], rows_[key], strict=True)
                assert [(c.source_type, a, b) for c, a, b in kinds if a != b] == [], (name, key)
        return found

    def gaps(self, *statements: str) -> dict[str, str]:
        """Do these and read; why the log does not tell all of a table."""
        return {name: changes.gap for name, changes in self.read(*statements).items()}

    def rows(self, table: Table) -> dict[Row, Row]:
        forms = ", ".join(_joined(values.canonical(c)) for c in table.columns)
        name = f"{quote(table.name.schema)}.{quote(table.name.name)}"
        found = rows(self.beside, f"select {forms} from {name}")
        return {_key(table, row): row for row in found}

    def _apply(self, table: Table, changes: Changes) -> list[Row]:
        if not changes.parts:
            return []
        copy = self.copies[table.name.name]
        forms = ", ".join(_joined_duckdb(column) for column in table.columns)
        files = ", ".join(f"'{part}'" for part in changes.parts)
        told = self.engine.execute(
            f"select _rp_seq, _rp_op, {forms} from read_parquet([{files}], union_by_name=true)"
            " order by _rp_seq"
        ).fetchall()
        assert len({number for number, *_ in told}) == len(told), "the order is not told"
        for part in changes.parts:
            part.unlink()
        for _, kind, *row in told:
            key = _key(table, row)
            if kind == "d":
                del copy[key]
            else:
                copy[key] = tuple(row)
        return [row[1:] for row in told]


def _key(table: Table, row: list[str] | Row) -> Row:
    return tuple(row[[c.name for c in table.columns].index(name)] for name in table.key)


def _joined(pieces: tuple[str, ...]) -> str:
    return f"concat({', '.join(pieces)})"


def _joined_duckdb(column: Column) -> str:
    return f"concat({', '.join(duckdb_canonical(column))})"
