"""What mode `log` will find on a server: looked at, and nothing made."""

from collections.abc import Iterator, Sequence

from repl_pipelines.errors import GrantMissing
from repl_pipelines.model.diagnosis import Diagnosis, advice, fault, well
from repl_pipelines.model.table import Table
from repl_pipelines.sources.postgres.connection import Connection, Protection
from repl_pipelines.sources.postgres.log import slot

_ROLE = """
select rolreplication or rolsuper, has_database_privilege(current_database(), 'CREATE'), rolsuper
from pg_roles where rolname = current_user
"""
_LIMITS = """
select current_setting('max_replication_slots')::int - (select count(*) from pg_replication_slots),
       current_setting('max_wal_senders')::int - (select count(*) from pg_stat_replication),
       current_setting('max_slot_wal_keep_size')
"""
_OWNED = "select pg_has_role(current_user, relowner, 'USAGE') from pg_class where oid = any(%s)"
_PUBLISHER = (
    "select pg_has_role(current_user, pubowner, 'USAGE') from pg_publication where pubname = %s"
)


def diagnose(
    connection: Connection, source: str, tables: Sequence[Table], protection: Protection
) -> Iterator[Diagnosis]:
    """Grants, publication, slot and the server's limits. Raises what is in the way of all."""
    slot.check_server(connection, source)
    name = slot.name_for(source)
    row = connection.execute(_ROLE.encode()).fetchone()
    assert row is not None
    replicates, creates, superuser = map(bool, row)
    if not replicates:
        raise GrantMissing(
            f"Source {source!r}: the role may not create or read replication slots.",
            slot.replication_grant(connection),
        )
    yield well("mode log", "wal_level is logical, and the role may replicate")
    yield _publication(connection, name, tables, creates=creates, superuser=superuser)
    for table, error in slot.filtered(connection, name, tables).items():
        yield fault(str(table), error.what, error.remedy)
    yield from _slot(connection, name, protection)


def _publication(
    connection: Connection, name: str, tables: Sequence[Table], *, creates: bool, superuser: bool
) -> Diagnosis:
    missing = slot.unpublished(connection, name, tables)
    if not missing:
        return well("publication", f"{name} has all {len(tables)} tables in mode log")
    publisher = connection.execute(_PUBLISHER.encode(), [name]).fetchone()
    oids = [int(table.identity) for table in missing]
    owned = all(bool(row[0]) for row in connection.execute(_OWNED.encode(), [oids]))
    sql = slot.publish_sql(name, missing, exists=publisher is not None)
    may = superuser or (owned and (bool(publisher[0]) if publisher else creates))
    if may:
        return well("publication", f"The next sync runs: {sql}")
    named = ", ".join(str(table.name) for table in missing)
    return fault(
        "publication", f"{name} lacks {named}, and the role may not add them.", f"The owner: {sql}"
    )


def _slot(connection: Connection, name: str, protection: Protection) -> Iterator[Diagnosis]:
    row = connection.execute(_LIMITS.encode()).fetchone()
    assert row is not None
    slots, senders, kept = int(str(row[0])), int(str(row[1])), str(row[2])
    found = slot.read_slot(connection, name)
    if found is None and slots < 1:
        yield fault("slot", "All replication slots are in use.", "Raise max_replication_slots.")
    elif found is None:
        yield well("slot", f"The next sync makes {name}; {slots} slots are free")
    elif found.lost:
        yield advice(
            "slot",
            f"{name} was invalidated by the server.",
            "Nothing is to be done: the next sync makes it anew and compares the tables.",
        )
    elif found.retained >= protection.retained_warn:
        yield advice(
            "slot",
            f"{name} keeps {found.retained:,} bytes of log; the limit is"
            f" {protection.retained_limit or 'the disk'}.",
            "Sync more often, or find out why syncs fail.",
        )
    else:
        yield well("slot", f"{name} keeps {found.retained:,} bytes of log, {found.behind:,} unread")
    if senders < 1:
        yield fault("slot", "All WAL senders are in use.", "Raise max_wal_senders.")
    if kept == "-1":
        yield advice(
            "slot",
            "While no sync runs, nothing bounds the log that the slot keeps.",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '...'; below the free disk space.",
        )
