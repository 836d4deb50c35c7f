"""Whether a server should be left alone for a moment: statements at work, replicas that lag."""

import threading
from collections.abc import Callable

from repl_pipelines.errors import GrantMissing
from repl_pipelines.sources.postgres.connection import Connection, Protection, source_errors

_MAY_SEE = (
    "select pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), quote_ident(current_user)"
)
_ACTIVE = """
select count(*) from pg_stat_activity
where state = 'active' and backend_type = 'client backend' and pid <> pg_backend_pid()
  and not (usename = current_user and application_name like 'repl_pipelines %')
"""
# By bytes: the server's own `replay_lag` stands still with a replica that has stopped replaying.
_BEHIND = """
select coalesce(nullif(r.application_name, ''), host(r.client_addr), 'a replica'),
  pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                  else pg_current_wal_lsn() end, r.replay_lsn)::bigint
from pg_stat_replication r
where r.replay_lsn is not null and not exists (
  select from pg_replication_slots s where s.active_pid = r.pid and s.slot_type = 'logical')
order by 2 desc limit 1
"""


def watcher(connection: Connection, name: str, protection: Protection) -> Callable[[], str]:
    """What tells why a proof should wait, '' if it need not; see `Snapshot.strain`.

    connection: the one that holds the snapshot; it is used by one thread at a time
    """
    lock = threading.Lock()

    def strain() -> str:
        if protection.max_load is None and protection.max_lag is None:
            return ""
        with lock, source_errors(name, "asking for its load"):
            return _loaded(connection, name, protection)

    return strain


def _loaded(connection: Connection, name: str, protection: Protection) -> str:
    may_see, role = connection.execute(_MAY_SEE.encode()).fetchone() or (False, "?")
    if not may_see:
        raise GrantMissing(
            f"Source {name!r}: role {role} may not see what other sessions do, so `max_load` and"
            " `max_lag_mb` cannot be kept.",
            f"GRANT pg_read_all_stats TO {role};",
        )
    connection.execute("select pg_stat_clear_snapshot()")  # or it answers as at first
    if protection.max_load is not None:
        [active] = connection.execute(_ACTIVE.encode()).fetchone() or (0,)
        if int(str(active)) > protection.max_load:
            return f"{active} statements are at work, of {protection.max_load}"
    if protection.max_lag is not None:
        found = connection.execute(_BEHIND.encode()).fetchone()
        if found and int(str(found[1])) > protection.max_lag:
            return f"{found[0]} is {int(str(found[1])):,} bytes behind, of {protection.max_lag:,}"
    return ""
