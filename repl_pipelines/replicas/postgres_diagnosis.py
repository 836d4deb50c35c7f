"""What of its server a PostgreSQL replica depends on."""

from collections.abc import Iterator

from repl_pipelines.model.diagnosis import Diagnosis, fault, well
from repl_pipelines.replicas.postgres_session import Connection

_SERVER = """
select current_setting('server_version'), pg_is_in_recovery(), quote_ident(current_user),
       quote_ident(current_database()), has_database_privilege(current_database(), 'CREATE'),
       has_database_privilege(current_database(), 'TEMPORARY')
"""


def diagnose(connection: Connection, replica: str) -> Iterator[Diagnosis]:
    """A look at the server and at the role's rights."""
    row = connection.execute(_SERVER.encode()).fetchone()
    assert row is not None
    version, standby, role, database, creates, stages = row
    what = f"PostgreSQL {version}; the role is {role}"
    if standby:
        yield fault(
            "server",
            f"{what}. It is a standby, which nobody can write to.",
            f"Name the primary in the resource {replica}.",
        )
        return
    yield well("server", what)
    lacking = [n for n, had in (("CREATE", creates), ("TEMPORARY", stages)) if not had]
    if lacking:
        yield fault(
            "grants",
            f"{' and '.join(lacking)} on the database is lacking: tables are staged and made.",
            f"GRANT {', '.join(lacking)} ON DATABASE {database} TO {role};",
        )
    else:
        yield well("grants", "CREATE and TEMPORARY on the database")
