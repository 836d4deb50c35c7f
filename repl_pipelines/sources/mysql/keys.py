"""How a session of MySQL is told a key: as values of a prepared statement, which its text has not.

That text is all that performance_schema has of it, which keeps the last statements of each session.
Where a log is written the server puts the values into it.
"""

from collections.abc import Mapping, Sequence

from repl_pipelines.sources.mariadb.connection import rows
from repl_pipelines.sources.mariadb.wire import Connection

_KEPT_BY = ("general_log", "slow_query_log", "audit", "telemetry.trace_enabled")
# Whatever audits has variables of that name, and everybody sees them; not so components.
_KEEPERS = """
select @@global.general_log, @@global.slow_query_log and @@global.long_query_time = 0,
  (select count(*) from performance_schema.global_variables where variable_name like '%audit%'),
  (select count(*) from performance_schema.global_variables
   where variable_name = 'telemetry.trace_enabled' and variable_value = 'ON')
"""


def keepers(connection: Connection) -> Sequence[str]:
    """See `sources.mariadb.dialect.Dialect`."""
    [found] = rows(connection, _KEEPERS)
    return [name for name, keeps in zip(_KEPT_BY, found, strict=True) if int(keeps or 0)]


def tell(connection: Connection, variables: Mapping[str, str]) -> None:
    """See `sources.mariadb.dialect.Dialect`."""
    told = ", ".join(f"{name} = UNHEX(?)" for name in variables)
    connection.execute(f"SET {told}", list(variables.values()))
