"""Handing a DuckDB replica over to a replication of another name."""

from contextlib import closing

from repl_pipelines import duck
from repl_pipelines.errors import ForeignReplica
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.replicas.duckdb_files import ReplicaFiles
from repl_pipelines.replicas.duckdb_spare import open_copy
from repl_pipelines.replicas.duckdb_state import CATALOG, STATE_SCHEMA


def rename(files: ReplicaFiles, before: str, after: str) -> None:
    """Publish a copy that says the new name, and let the others go. Holds the lock."""
    if files.published() is None:
        return
    with closing(duck.connect()) as session:
        try:
            copy = open_copy(session, files, before)
        except ForeignReplica:
            session.execute(f"DETACH {CATALOG}")
            for path in files.unpublished():  # the copy just made among them
                files.discard(path)
            spare = open_copy(session, files, after)  # raises if it belongs to neither
            session.execute(f"DETACH {CATALOG}")
            files.discard(spare.path)
            return
        state = f"{CATALOG}.{quote(STATE_SCHEMA)}.state"
        session.execute(f"UPDATE {state} SET replication = {literal(after)}")
        session.execute(f"CHECKPOINT {CATALOG}")
        session.execute(f"DETACH {CATALOG}")
    files.publish(copy.path)
    for path in files.unpublished():  # they say the old name
        files.discard(path)
