"""Which transactions are open in PostgreSQL, and since when: what a horizon is made of."""

from datetime import datetime

from repl_pipelines.errors import DeclarationError, GrantMissing
from repl_pipelines.sources.horizon import MARGIN, Watermark
from repl_pipelines.sources.postgres.connection import Connection

_OPEN = """
select min(xact_start) from pg_stat_activity
where xact_start is not null and pid <> pg_backend_pid()
  and (datname = current_database() or datname is null)
  and backend_type not in ('autovacuum worker', 'walsender')
  and not (usename = current_user and application_name like 'repl_pipelines %')
"""
_PREPARED = "select count(*) from pg_prepared_xacts where database = current_database()"


def watermark(connection: Connection, source: str) -> Watermark:
    """Observe the open transactions; call before taking the snapshot. Raises GrantMissing."""
    standby, may_see, role = connection.execute(
        "select pg_is_in_recovery(), pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),"
        " quote_ident(current_user)"
    ).fetchone() or (False, False, "?")
    if standby:
        raise DeclarationError(
            f"Source {source!r} is a standby; it does not show the transactions open on its"
            " primary, so mode cursor could miss rows.",
            "Point the source at the primary, or use mode full or partition.",
        )
    if not may_see:
        raise GrantMissing(
            f"Source {source!r}: role {role} may not see when other sessions' transactions began,"
            " so mode cursor could miss late commits.",
            f"GRANT pg_read_all_stats TO {role};",
        )
    taken = _only(connection, "select clock_timestamp()")
    oldest = _only(connection, _OPEN)  # before the prepared ones: a transaction moves that way
    prepared = _only(connection, _PREPARED)
    assert isinstance(taken, datetime)
    if prepared:
        return Watermark(taken, None)
    return Watermark(taken, min(taken, oldest if isinstance(oldest, datetime) else taken) - MARGIN)


def _only(connection: Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None
