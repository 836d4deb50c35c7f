"""How one table of a PostgreSQL replica is moved forward, inside the sync's transaction."""

import hashlib
from dataclasses import dataclass, field

import psycopg

from repl_pipelines.errors import DeclarationError, ForeignReplica
from repl_pipelines.model.partitions import partition_predicate
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Mode, Table, TableName
from repl_pipelines.replicas.contract import Applied
from repl_pipelines.replicas.news import Held, Step, Way
from repl_pipelines.replicas.postgres_session import Connection, first, send
from repl_pipelines.replicas.postgres_stage import Stage
from repl_pipelines.replicas.postgres_state import Record, create_schema


@dataclass
class Merge:
    """One step on one table; `changed` and `rows` are known once it ran."""

    connection: Connection
    step: Step
    held: Held | None
    stage: Stage | None = None
    changed: int = field(default=0, init=False)
    rows: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.rows = self.held.rows if self.held else 0

    def carry_out(self) -> None:
        """Merge the staged rows into the table."""
        if self.stage is None:
            return
        if self.held is None or self.held.shape != shape(self.step.table):
            self._fill()
        elif self.step.way is Way.CHANGES:
            self._merge_changes()
        elif self.step.way is Way.PARTITIONS:
            keys = self.step.partitions
            self._replace(partition_predicate("postgres", self.step.table, keys))
        elif has_primary_key(self.step.table):
            self._replace_differing()
        else:
            self._replace("true")

    def record(self) -> Record:
        return Record(self.step.table.name, shape(self.step.table), self.rows)

    def applied(self, sync: int) -> Applied:
        reloaded = self.step.way is Way.RELOAD
        return Applied(self.step.table.name, sync, self.changed, self.rows, reloaded)

    def _fill(self) -> None:
        """Create the table, in the place of one of another shape, with its rows and indexes."""
        table, target = self.step.table, self._target
        grants = _drop(self.connection, table.name, ours=self.held is not None)
        create_schema(self.connection, table.name.schema)
        columns = ", ".join(f"{quote(c.name)} {c.postgres_type}" for c in table.columns)
        send(self.connection, f"CREATE TABLE {target} ({columns})")
        self.rows = 0
        self._insert("true")
        if has_primary_key(table):
            send(self.connection, f"ALTER TABLE {target} ADD PRIMARY KEY ({_list(table.key)})")
        elif table.key:
            send(self.connection, f"CREATE INDEX ON {target} ({_list(table.key)})")
        if table.partition:
            send(self.connection, f"CREATE INDEX ON {target} ({quote(table.partition.column)})")
        for grant in grants:
            send(self.connection, grant)

    def _merge_changes(self) -> None:
        """Delete every changed key, insert what it became."""
        assert self.stage
        self._delete(f"USING {self.stage.name} AS s WHERE {self._same_key}")
        self._insert("_rp_op <> 'd'")
        self.changed = self.stage.rows

    def _replace(self, predicate: str) -> None:
        self._delete(f"WHERE {predicate}")
        self._insert("true")

    def _replace_differing(self) -> None:
        """Touch only rows that differ in any bit: `*=` compares stored images, not meaning."""
        assert self.stage
        names = [quote(column.name) for column in self.step.table.columns]
        rows = (", ".join(f"{alias}.{name}" for name in names) for alias in "ts")
        # As records: between two ROW(...) an operator is applied column by column.
        old, new = (f"ROW({row})::record" for row in rows)
        self._delete(
            f"WHERE NOT EXISTS (SELECT FROM {self.stage.name} AS s"
            f" WHERE {self._same_key} AND {old} OPERATOR(pg_catalog.*=) {new})"
        )
        self._insert(f"NOT EXISTS (SELECT FROM {self._target} AS t WHERE {self._same_key})")

    def _delete(self, rest: str) -> None:
        deleted = send(self.connection, f"DELETE FROM {self._target} AS t {rest}").rowcount
        self.rows -= deleted
        self.changed += deleted

    def _insert(self, condition: str) -> None:
        assert self.stage
        names = ", ".join(quote(column.name) for column in self.step.table.columns)
        inserted = send(
            self.connection,
            f"INSERT INTO {self._target} {f'({names})' if names else ''}"
            f" SELECT {names} FROM {self.stage.name} AS s WHERE {condition}",
        ).rowcount
        self.rows += inserted
        self.changed += inserted

    @property
    def _target(self) -> str:
        return qualified(self.step.table.name)

    @property
    def _same_key(self) -> str:
        return " AND ".join(f"t.{quote(k)} = s.{quote(k)}" for k in self.step.table.key)


def shape(table: Table) -> str:
    """Changes whenever the rows a replica holds can no longer be rows of this table."""
    types = [column.postgres_type for column in table.columns]
    stored = (table.fingerprint, types, has_primary_key(table))
    return hashlib.sha256(repr(stored).encode()).hexdigest()


def has_primary_key(table: Table) -> bool:
    """Not where a row's partition can change: until its old one is read again, there are two."""
    moves = table.mode is Mode.PARTITION and not (
        table.partition and table.partition.column in table.key
    )
    return bool(table.key) and not moves


def qualified(name: TableName) -> str:
    """The name as SQL."""
    return f"{quote(name.schema)}.{quote(name.name)}"


def _drop(connection: Connection, name: TableName, *, ours: bool) -> list[str]:
    """Drop the table if it is there; the statements that give its grantees their rights back."""
    found = first(connection, "SELECT to_regclass(%s)::oid", [qualified(name)])
    if found is None:
        return []
    if not ours:
        raise ForeignReplica(
            f"The replica's database already has a table {name} that no sync made.",
            "Drop or rename it, or give the replica a database of its own.",
        )
    grants = send(
        connection,
        "SELECT format('GRANT %%s ON %%s TO %%s', a.privilege_type, %s::text,"
        " CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)"
        " FROM pg_class c, aclexplode(c.relacl) a"
        " WHERE c.oid = %s AND a.grantee <> c.relowner",
        [qualified(name), found],
    ).fetchall()
    try:
        send(connection, f"DROP TABLE {qualified(name)}")
    except psycopg.errors.DependentObjectsStillExist as error:
        raise DeclarationError(
            f"{name} has a new shape, but the replica cannot give it: {error.diag.message_detail}.",
            "Drop what depends on the table, sync, and create it again.",
        ) from error
    return [str(grant) for (grant,) in grants]


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(map(quote, names))
