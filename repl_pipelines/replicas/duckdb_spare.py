"""Which file of a DuckDB replica the next sync writes to."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from repl_pipelines.errors import ForeignReplica
from repl_pipelines.model.sql import literal
from repl_pipelines.replicas.duckdb_files import ReplicaFiles
from repl_pipelines.replicas.duckdb_state import CATALOG, read_state
from repl_pipelines.replicas.news import State


@dataclass(frozen=True)
class Spare:
    """A file attached to the session for writing, and what it holds."""

    path: Path
    state: State


def open_spare(session: duckdb.DuckDBPyConnection, files: ReplicaFiles, replication: str) -> Spare:
    """Attach an unpublished file that nobody reads, or a copy of the published one, or a new one.

    Removes the files that are of no use: damaged, or held by readers who have gone since. One that
    a sync died on is of use: DuckDB recovers it to its last commit, which has its own number. None
    is where somebody wrote to the published one: with the turns, what they did would come and go,
    and a proof would find it or not.
    """
    if files.altered():
        for path in files.unpublished():
            files.discard(path)
    spare: Spare | None = None
    for path in files.unpublished():
        if spare:
            _remove_unless_held(session, files, path)
        else:
            spare = _attach_unpublished(session, files, path, replication)
    return spare or open_copy(session, files, replication)


def open_copy(session: duckdb.DuckDBPyConnection, files: ReplicaFiles, replication: str) -> Spare:
    """Attach a copy of the published file, or an empty one if there is none."""
    published = files.published()
    path = files.copy(published) if published else files.fresh()
    _attach(session, path, CATALOG)
    return Spare(path, read_state(session, replication, str(path)))


def discard(session: duckdb.DuckDBPyConnection, files: ReplicaFiles, spare: Spare) -> None:
    """Let go of a spare that is of no use."""
    session.execute(f"DETACH {CATALOG}")
    files.discard(spare.path)


def _attach_unpublished(
    session: duckdb.DuckDBPyConnection, files: ReplicaFiles, path: Path, replication: str
) -> Spare | None:
    try:
        _attach(session, path, CATALOG)
    except duckdb.Error as error:
        if not _held(error):
            files.discard(path)
        return None
    try:
        spare = Spare(path, read_state(session, replication, str(path)))
    except ForeignReplica:
        spare = Spare(path, State(0, {}))
    if spare.state.sync:
        return spare
    discard(session, files, spare)
    return None


def _remove_unless_held(
    session: duckdb.DuckDBPyConnection, files: ReplicaFiles, path: Path
) -> None:
    try:
        _attach(session, path, "stale")
    except duckdb.Error as error:
        if _held(error):
            return
    else:
        session.execute("DETACH stale")
    files.discard(path)


def _attach(session: duckdb.DuckDBPyConnection, path: Path, catalog: str) -> None:
    session.execute(f"ATTACH {literal(str(path))} AS {catalog}")


def _held(error: duckdb.Error) -> bool:
    """Another process, or another connection of this one, has the file open."""
    return any(sign in str(error) for sign in ("Could not set lock", "Unique file handle conflict"))
