"""The lake's side of a correction: what of its rows a replica is given, and when."""

import duckdb

from repl_pipelines.errors import SyncInProgress
from repl_pipelines.lake.lake import Lake
from repl_pipelines.proof.relation import duckdb_relation
from repl_pipelines.replicas.contract import Correction
from repl_pipelines.replicas.news import Held, State


def lake_rows(lake: Lake, session: duckdb.DuckDBPyConnection, one: Correction) -> str:
    """SELECT of the rows that the replica is to have in the place of those it has."""
    rows = lake.table(one.table.name).rows_sql(one.table, version=one.version)
    relation = duckdb_relation(session, one.table, f"({rows}) AS t")
    where = relation.where(one.selection)
    chosen = "true" if one.digests is None else relation.among(one.digests)
    return f"SELECT * FROM {relation.sql} WHERE {where} AND {chosen}"


def held(state: State, one: Correction, replica: str) -> Held:
    """What the replica remembers of the table, if it is where the correction supposes it."""
    found = state.tables.get(one.table.name)
    if state.sync != one.sync or found is None:
        raise SyncInProgress(
            f"Replica {replica!r} has moved on to sync {state.sync} while it was compared.",
            "Nothing was changed; run the repair again.",
        )
    return found
