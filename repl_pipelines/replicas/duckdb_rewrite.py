"""A DuckDB replica written anew, with nothing in its file of rows that it no longer has."""

import duckdb

from repl_pipelines.failpoints import reach
from repl_pipelines.model.sql import literal
from repl_pipelines.replicas.duckdb_files import ReplicaFiles
from repl_pipelines.replicas.duckdb_state import CATALOG

_FORMER = "former"


def rewrite(session: duckdb.DuckDBPyConnection, files: ReplicaFiles) -> None:
    """Publish a file with the rows of the published one, and remove all others.

    DuckDB keeps a deleted row until its row group is rewritten, and what it frees as it is.
    """
    for path in files.unpublished():
        files.discard(path)
    published = files.published()
    if published is None:
        return
    path = files.fresh()
    session.execute(f"ATTACH {literal(str(published))} AS {_FORMER} (READ_ONLY)")
    session.execute(f"ATTACH {literal(str(path))} AS {CATALOG}")
    # All or nothing: a file that a kill leaves behind must not look like a spare.
    session.execute("BEGIN")
    session.execute(f"COPY FROM DATABASE {_FORMER} TO {CATALOG}")
    session.execute("COMMIT")
    session.execute(f"CHECKPOINT {CATALOG}")
    session.execute(f"DETACH {CATALOG}")
    session.execute(f"DETACH {_FORMER}")
    reach("erase.rewritten")
    files.publish(path)
    files.discard(published)
