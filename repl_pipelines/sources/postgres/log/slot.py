"""The publication and the slot of a source: made when they can be, checked always, let go of.

The names are the source's; one slot serves all its tables in mode `log`.
"""

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from repl_pipelines.errors import DeclarationError, GrantMissing, ReplicationError
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sources.postgres.connection import Connection
from repl_pipelines.sources.postgres.log.anchor import lsn_text

PREFIX = "repl_pipelines"  # of logical decoding messages, too
ANCHORING = 30.0  # seconds to wait for transactions that were open when a table joined

_SLOT = """
select confirmed_flush_lsn - '0/0', restart_lsn is null or wal_status = 'lost', active,
       coalesce(wal_status, ''), pg_current_wal_lsn() - restart_lsn,
       pg_current_wal_lsn() - confirmed_flush_lsn, plugin, database
from pg_replication_slots where slot_name = %s
"""
# A publication that names partitions instead of their root covers it when it has all of them.
_COVERED = """
with published as (
  select c.oid from pg_publication_tables p join pg_namespace n on n.nspname = p.schemaname
  join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename where p.pubname = %s
)
select w.oid::bigint from unnest(%s::oid[]) as w(oid) join pg_class c on c.oid = w.oid
where w.oid in (select oid from published)
   or c.relkind = 'p' and not exists (
     select from pg_partition_tree(w.oid) t
     where t.isleaf and t.relid not in (select oid from published))
"""
_PUBLISHES = """
select pubinsert and pubupdate and pubdelete and pubtruncate from pg_publication where pubname = %s
"""
# Row filters and column lists (PostgreSQL 15) would make the stream leave rows or columns out.
_FILTERED = """
select n.nspname::text, c.relname::text
from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
where p.pubname = %s and (r.prqual is not null or r.prattrs is not null)
"""


@dataclass(frozen=True)
class Slot:
    """A slot as the server shows it.

    confirmed: commits before this position are gone from the stream
    lost:      invalidated by the server: what followed cannot be read any more
    retained, behind: bytes of log kept for it, and not yet confirmed
    """

    confirmed: int
    lost: bool
    active: bool
    wal_status: str
    retained: int
    behind: int
    plugin: str
    database: str


def may_write(connection: Connection) -> None:
    """Of all sessions only these write: a publication, a slot, a marker; nobody waits for it."""
    connection.execute("set default_transaction_read_only = off")
    connection.execute("set synchronous_commit = local")


def name_for(source: str) -> str:
    """The name of slot and publication: at most 63 of [a-z0-9_], one for each source name."""
    plain = re.sub(r"[^a-z0-9_]", "_", source.lower())
    if plain == source and len(plain) <= 40:
        return f"{PREFIX}_{plain}"
    return f"{PREFIX}_{plain[:30]}_{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def read_slot(connection: Connection, name: str) -> Slot | None:
    """The slot as it stands, None if there is none."""
    row = connection.execute(_SLOT, [name]).fetchone()
    if row is None:
        return None
    confirmed, lost, active, status, retained, behind, plugin, database = row
    return Slot(
        confirmed=int(str(confirmed or 0)),
        lost=bool(lost),
        active=bool(active),
        wal_status=str(status),
        retained=int(str(retained or 0)),
        behind=int(str(behind or 0)),
        plugin=str(plugin),
        database=str(database),
    )


def confirmed(connection: Connection, name: str) -> int:
    """Where the slot's stream begins: commits before this position are gone from it."""
    slot = read_slot(connection, name)
    return slot.confirmed if slot else 0


def ensure_slot(connection: Connection, source: str, name: str) -> None:
    """Make the slot if there is none, and anew if the server has invalidated it."""
    slot = read_slot(connection, name)
    if slot and slot.lost and not slot.active:
        drop_slot(connection, name)
        slot = None
    if slot:
        here = connection.info.dbname
        if slot.plugin != "pgoutput" or slot.database != here:
            raise DeclarationError(
                f"Source {source!r}: slot {name} is of plugin {slot.plugin} in database"
                f" {slot.database}, not of pgoutput in {here}.",
                "Give the replication another name, or drop that slot if nobody needs it.",
            )
        return
    try:
        connection.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
    except psycopg.errors.InsufficientPrivilege as error:
        raise GrantMissing(
            f"Source {source!r}: the role may not create replication slots.",
            replication_grant(connection),
        ) from error
    except psycopg.errors.ConfigurationLimitExceeded as error:
        raise DeclarationError(
            f"Source {source!r}: all replication slots are in use.",
            "Raise max_replication_slots, or drop a slot that nobody reads.",
        ) from error


def drop_slot(connection: Connection, name: str) -> None:
    """Let the server forget the slot and the log it kept for it."""
    connection.execute("select pg_drop_replication_slot(%s)", [name])


def advance(connection: Connection, name: str, position: int) -> None:
    """Confirm everything before `position`; never backwards, never a slot that is not there."""
    slot = read_slot(connection, name)
    if slot is None or slot.lost or slot.confirmed >= position:
        return
    connection.execute("select pg_replication_slot_advance(%s, %s)", [name, lsn_text(position)])


def ensure_publication(
    connection: Connection, source: str, name: str, tables: Sequence[Table]
) -> dict[TableName, ReplicationError]:
    """Publish the tables; why that is not possible, for those it concerns."""
    missing = unpublished(connection, name, tables)
    row = connection.execute(_PUBLISHES, [name]).fetchone()
    if missing:
        sql = publish_sql(name, missing, exists=row is not None)
        try:
            connection.execute(sql.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            why = str(error).strip().splitlines()[0]
            return {
                table.name: GrantMissing(
                    f"{table.name} is not in publication {name} of source {source!r}, and the role"
                    f" may not add it: {why}.",
                    f"Have the owner run: {sql}",
                )
                for table in missing
            }
    elif row and not row[0]:
        problem = DeclarationError(
            f"Publication {name} of source {source!r} leaves out some kinds of changes.",
            f"ALTER PUBLICATION {quote(name)} SET (publish = 'insert, update, delete, truncate');",
        )
        return {table.name: problem for table in tables}
    return filtered(connection, name, tables)


def unpublished(connection: Connection, name: str, tables: Sequence[Table]) -> list[Table]:
    """Those that the publication does not cover."""
    oids = [int(table.identity) for table in tables]
    covered = {str(oid) for (oid,) in connection.execute(_COVERED, [name, oids])}
    return [table for table in tables if table.identity not in covered]


def settle(connection: Connection) -> bool:
    """Wait until all transactions have ended that were open just now; False if some did not.

    A transaction that wrote to a table before the table was published is not streamed with these
    rows. Once they all have ended, a snapshot shows what they did.
    """
    bound = _snapshot(connection)[1]
    deadline = time.monotonic() + ANCHORING
    while _snapshot(connection)[0] < bound:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def emit_marker(connection: Connection, content: str) -> int:
    """Write a message to the log, committed: when it arrives, all commits before it have.

    Returns a position up to which the log then is on disk, the message included.
    """
    connection.execute("select pg_logical_emit_message(true, %s, %s)", [PREFIX, content])
    row = connection.execute("select pg_current_wal_flush_lsn() - '0/0'").fetchone()
    assert row is not None
    return int(str(row[0]))


def _snapshot(connection: Connection) -> tuple[int, int]:
    row = connection.execute(
        "select pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint"
        " from (select pg_current_snapshot()) as now(s)"
    ).fetchone()
    assert row is not None
    return int(str(row[0])), int(str(row[1]))


def filtered(
    connection: Connection, name: str, tables: Sequence[Table]
) -> dict[TableName, ReplicationError]:
    """Tables of which the publication leaves rows or columns out."""
    if connection.info.server_version < 150000:
        return {}
    found = {TableName(str(s), str(t)) for s, t in connection.execute(_FILTERED, [name])}
    return {
        table.name: DeclarationError(
            f"{table.name}: publication {name} has a row filter or a column list for it.",
            "Publish the whole table: rows or columns would be missing in the copy.",
        )
        for table in tables
        if table.name in found
    }


def publish_sql(name: str, tables: Sequence[Table], *, exists: bool) -> str:
    """What publishes the tables. exists: the publication does."""
    names = ", ".join(f"{quote(t.name.schema)}.{quote(t.name.name)}" for t in tables)
    if exists:
        return f"ALTER PUBLICATION {quote(name)} ADD TABLE {names};"
    options = "publish_via_partition_root = true"
    return f"CREATE PUBLICATION {quote(name)} FOR TABLE {names} WITH ({options});"


def check_server(connection: Connection, source: str) -> None:
    """Refuse a server that has no log to read."""
    row = connection.execute(
        "select current_setting('wal_level'), pg_is_in_recovery()"
    ).fetchone() or ("?", False)
    if row[1]:
        raise DeclarationError(
            f"Source {source!r} is a standby; mode log reads the primary.",
            "Point the source at the primary, or use mode full or partition.",
        )
    if row[0] != "logical":
        raise DeclarationError(
            f"Source {source!r}: wal_level is {row[0]}; mode log needs logical.",
            "ALTER SYSTEM SET wal_level = 'logical'; and restart the server.",
        )


def replication_grant(connection: Connection) -> str:
    """What lets the role have slots."""
    row = connection.execute("select quote_ident(current_user)").fetchone() or ("?",)
    return f"ALTER ROLE {row[0]} REPLICATION;"
