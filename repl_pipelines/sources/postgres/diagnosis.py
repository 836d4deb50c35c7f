"""What of a PostgreSQL server a replication depends on, looked at without changing anything."""

import time
from collections.abc import Iterator, Sequence
from functools import partial

from repl_pipelines.model.diagnosis import Diagnosis, advice, clock, examined, fault, well
from repl_pipelines.model.table import Mode, Table
from repl_pipelines.sources.contract import Survey
from repl_pipelines.sources.diagnosis import diagnosed
from repl_pipelines.sources.postgres import horizon, types
from repl_pipelines.sources.postgres.connection import Connection, Protection
from repl_pipelines.sources.postgres.log import prospect

OLDEST = 14  # version
_SERVER = """
select current_setting('server_version'), current_setting('server_version_num')::int / 10000,
       pg_is_in_recovery(), extract(epoch from clock_timestamp())::float8,
       quote_ident(current_user), pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
"""
_FREE = """
select current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
       - (select count(*) from pg_stat_activity where backend_type = 'client backend'),
       (select rolconnlimit from pg_roles where rolname = current_user), quote_ident(current_user)
"""
_SECURED = """
select oid::regclass::text, quote_ident(current_user) from unnest(%s::oid[]) as t(oid)
where row_security_active(oid)
"""
_OLDEST = """
select extract(epoch from clock_timestamp() - min(xact_start))::float8,
       (select count(*) from pg_prepared_xacts where database = current_database())
from pg_stat_activity
where pid <> pg_backend_pid() and datname = current_database() and backend_type = 'client backend'
"""
LONG = 3600.0  # seconds for which a transaction is open that holds a horizon back


def diagnose(
    connection: Connection, source: str, survey: Survey, protection: Protection
) -> list[Diagnosis]:
    """A look at each of these, whatever the others find. connection: not in a transaction."""
    tables = survey.tables
    looks = {
        "server": partial(_server, connection, protection),
        "connections": partial(_connections, connection, protection),
        "row security": partial(_row_security, connection, tables),
    }
    if any(table.mode is Mode.CURSOR for table in tables):
        looks["mode cursor"] = partial(_cursor, connection, source)
    logged = [table for table in tables if table.mode is Mode.LOG]
    if logged:
        looks["mode log"] = partial(prospect.diagnose, connection, source, logged, protection)
    found = [one for about, look in looks.items() for one in examined(about, look)]
    return [*found, *diagnosed(survey, types.misfit)]


def standby(connection: Connection) -> Diagnosis:
    """Of the server that `standby_host` names."""
    row = connection.execute(
        "select pg_is_in_recovery(), current_setting('hot_standby_feedback')::bool"
    ).fetchone()
    assert row is not None
    if not row[0]:
        return fault(
            "standby", "The server at standby_host is not a standby.", "Correct standby_host."
        )
    if not row[1]:
        return advice(
            "standby",
            "Its replay may end a long proof (conflict with recovery).",
            "ALTER SYSTEM SET hot_standby_feedback = on; there, or max_standby_streaming_delay.",
        )
    return well("standby", "it can be read from, and feeds back what it reads")


def _server(connection: Connection, protection: Protection) -> Iterator[Diagnosis]:
    before = time.time()
    row = connection.execute(_SERVER.encode()).fetchone()
    ours = (before + time.time()) / 2
    assert row is not None
    version, major, standby, at, role, may_see = row
    kind = "a standby" if standby else "a primary"
    what = f"PostgreSQL {version}, {kind}; the role is {role}"
    if int(str(major)) < OLDEST:
        yield fault("server", what, f"Use PostgreSQL {OLDEST} or newer.")
    else:
        yield well("server", what)
    yield clock(float(str(at)) - ours)
    if not may_see and (protection.max_load is not None or protection.max_lag is not None):
        yield fault(
            "limits",
            "`max_load` and `max_lag_mb` cannot be kept: the role may not see other sessions.",
            f"GRANT pg_read_all_stats TO {role};",
        )


def _connections(connection: Connection, protection: Protection) -> Iterator[Diagnosis]:
    row = connection.execute(_FREE.encode()).fetchone()
    assert row is not None
    free, limit = (int(str(value)) for value in row[:2])
    needed = protection.workers + 2
    if 0 <= limit < needed:
        yield fault(
            "connections",
            f"The role may have {limit} at once; a sync has up to {needed}.",
            f"ALTER ROLE {row[2]} CONNECTION LIMIT {needed}; or fewer `workers`.",
        )
    elif free < needed:
        yield advice(
            "connections",
            f"{max(free, 0)} are free now; a sync has up to {needed}.",
            "Raise max_connections, or set fewer `workers` of the source.",
        )
    else:
        yield well("connections", f"{free} are free; a sync has up to {needed}")


def _row_security(connection: Connection, tables: Sequence[Table]) -> Iterator[Diagnosis]:
    oids = [int(table.identity) for table in tables]
    for name, role in connection.execute(_SECURED.encode(), [oids]):
        yield fault(
            str(name),
            "Row-level security would hide rows from the role; reading it is refused.",
            f"ALTER ROLE {role} BYPASSRLS;",
        )


def _cursor(connection: Connection, source: str) -> Iterator[Diagnosis]:
    horizon.watermark(connection, source)  # raises what is in its way
    row = connection.execute(_OLDEST.encode()).fetchone()
    assert row is not None
    age, prepared = float(str(row[0] or 0)), int(str(row[1]))
    if prepared:
        yield advice(
            "mode cursor",
            f"{prepared} prepared transactions: every sync reads again from before them.",
            "COMMIT PREPARED or ROLLBACK PREPARED what nobody waits for (pg_prepared_xacts).",
        )
    elif age > LONG:
        yield advice(
            "mode cursor",
            f"A transaction is open since {age / 3600:.1f} h: every sync reads again from then.",
            "End it (pg_stat_activity), or set idle_in_transaction_session_timeout.",
        )
    else:
        yield well("mode cursor", "open transactions can be seen, and none is old")
