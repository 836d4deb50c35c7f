"""How a session of MySQL is told a key: as values of a prepared statement, which its text has not.

That text is all that performance_schema has of it, which keeps the last statements of each session.
Where a log is written the server puts the values into it.
"""

from collections.abc import Mapping

from repl_pipelines.sources.mariadb.wire import Connection

# Whatever audits has variables of that name, and everybody sees them; not so components.
KEEPERS = {
    "general_log": "@@global.general_log",
    "slow_query_log": "@@global.slow_query_log and @@global.long_query_time = 0",
    "audit": """(
  select count(*) from performance_schema.global_variables where variable_name like '%audit%')
""",
    "telemetry.trace_enabled": """(
  select count(*) from performance_schema.global_variables
  where variable_name = 'telemetry.trace_enabled' and variable_value = 'ON')
""",
}


def tell(connection: Connection, variables: Mapping[str, str]) -> None:
    """See `sources.mariadb.dialect.Dialect`."""
    told = ", ".join(f"{name} = UNHEX(?)" for name in variables)
    connection.execute(f"SET {told}", list(variables.values()))
