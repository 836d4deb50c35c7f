"""Filling in what the log left out of a change: large values that an update did not touch.

PostgreSQL does not log a value stored out of line (TOAST) that stayed as it was, nor (before
version 18) a generated column. Such a value is, in this order: that of the row's version before it
in this batch; the source's, in this sync's snapshot, if no later version in this batch has one; the
lake's, from before this batch. A version that none of them completes is left out of the history;
the newest of each row never is, as the snapshot has it.
"""

from collections.abc import Sequence
from pathlib import Path

from repl_pipelines.duck import parquet_options
from repl_pipelines.errors import NotProven
from repl_pipelines.lake.columns import META, column_list
from repl_pipelines.model.column import Column
from repl_pipelines.model.selection import Keys
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.proof.canonical import duckdb_text
from repl_pipelines.sources.contract import UNKNOWN
from repl_pipelines.sync.work import Work

KEYS = 5_000  # keys that one statement asks the source for


def complete(work: Work, parts: Sequence[Path]) -> list[Path]:
    """The same changes with every value, in a new file; the given ones are deleted."""
    rows = _local(parts)
    key = column_list(work.table.key)
    lacking = f"SELECT DISTINCT {key} FROM {rows} WHERE {UNKNOWN} IS NOT NULL"
    work.session.execute(f"CREATE OR REPLACE TEMP TABLE lacking AS {lacking}")
    missing = _missing(work, rows)
    work.session.execute(
        f"CREATE OR REPLACE TEMP TABLE versions AS {_versions(work, rows, missing)}"
    )
    _from_source(work, missing)
    _from_lake(work, missing)
    target = work.directory / "complete.parquet"
    names = [*(c.name for c in work.table.columns), *META]
    values = {c.name: f"{_slot(c)}.v AS {quote(c.name)}" for c in missing}
    known = " AND ".join(f"{_slot(c)} IS NOT NULL" for c in missing)
    work.session.execute(
        f"COPY (SELECT {column_list(names)} FROM {rows} ANTI JOIN lacking USING ({key})"
        f" UNION ALL SELECT {', '.join(values.get(n, quote(n)) for n in names)} FROM versions"
        f" WHERE _rp_op = 'd' OR ({known}))"
        f" TO {literal(str(target))} ({parquet_options(work.table.columns)})"
    )
    for path in parts:
        path.unlink()
    return [target]


def survivors(work: Work, parts: Sequence[Path]) -> list[Path]:
    """Rows that a transaction's last delete of their key did not mean, in a file after the others.

    Where no index forbids it at once (a deferrable constraint, a key that is only declared), a
    transaction may have two rows of one key, as when keys are swapped, and then delete one of them.
    Which one the key does not tell; the snapshot does.
    """
    rows = _local(parts)
    key = column_list(work.table.key)
    last = f"SELECT {key}, max(_rp_position) AS last FROM {rows} GROUP BY {key}"
    doubtful = work.session.execute(
        f"SELECT DISTINCT {key_texts(work)} FROM {rows}"
        f" JOIN ({last} HAVING max_by(_rp_op, _rp_seq) = 'd') USING ({key})"
        " WHERE _rp_op = 'u' AND _rp_position = last"
    ).fetchall()
    found = _read_keys(work, [tuple(map(str, row)) for row in doubtful])
    if not found:
        return []
    target = work.directory / "survivors.parquet"
    work.session.execute(
        f"COPY (SELECT * REPLACE ((SELECT max(_rp_seq) + 1 FROM {rows}) AS _rp_seq)"
        f" FROM {_local(found)}) TO {literal(str(target))} ({parquet_options(work.table.columns)})"
    )
    return [target]


def key_texts(work: Work) -> str:
    """SQL for the key's values as the source takes them back in `Keys`."""
    return ", ".join(duckdb_text(work.table.column(name), quote(name)) for name in work.table.key)


def _missing(work: Work, rows: str) -> list[Column]:
    found = work.session.execute(f"SELECT DISTINCT unnest({UNKNOWN}) FROM {rows}").fetchall()
    return [column for column in work.table.columns if (column.ordinal,) in found]


def _versions(work: Work, rows: str, missing: Sequence[Column]) -> str:
    """The versions of the rows concerned, each missing value taken from the version before.

    A life of a key begins behind each delete. One that begins with an update came from another key:
    such an update is told as a delete and an upsert in direct succession.
    """
    key = column_list(work.table.key)
    told = "_rp_op <> 'd' AND NOT coalesce(list_contains({u}, {o}), false)"
    values = ", ".join(
        f"last_value(CASE WHEN {told.format(u=UNKNOWN, o=c.ordinal)}"
        f" THEN {{'v': {quote(c.name)}}} END IGNORE NULLS) OVER life AS {_slot(c)}"
        for c in missing
    )
    return f"""
        WITH stream AS (
            SELECT *, _rp_op = 'u' AND coalesce(lag(_rp_op) OVER told = 'd'
                AND lag(_rp_seq) OVER told = _rp_seq - 1, false) AS _rp_moved
            FROM {rows} WINDOW told AS (ORDER BY _rp_seq)
        ), lives AS (
            SELECT *, count(*) FILTER (WHERE _rp_op = 'd') OVER
                (PARTITION BY {key} ORDER BY _rp_seq) AS _rp_life
            FROM stream SEMI JOIN lacking USING ({key})
        )
        SELECT *, {values}, first_value(_rp_moved) OVER life AS _rp_came,
            _rp_seq = max(_rp_seq) OVER (PARTITION BY {key}) AS _rp_newest,
            _rp_life = max(_rp_life) OVER (PARTITION BY {key}) AS _rp_lives
        FROM lives WINDOW life AS (PARTITION BY {key}, _rp_life ORDER BY _rp_seq)
    """


def _from_source(work: Work, missing: Sequence[Column]) -> None:
    """What no version up to the newest has is in the snapshot as it was all along."""
    unknown = " OR ".join(f"{_slot(c)} IS NULL" for c in missing)
    wanted = work.session.execute(
        f"SELECT {key_texts(work)} FROM versions WHERE _rp_newest AND _rp_op = 'u' AND ({unknown})"
    ).fetchall()
    keys = [tuple(map(str, row)) for row in wanted]
    paths = _read_keys(work, keys)
    found = (
        work.session.execute(f"SELECT count(*) FROM {_local(paths)}").fetchone() if paths else None
    )
    if keys and (not found or found[0] != len(keys)):
        raise NotProven(
            f"{work.table.name}: the stream has changed rows that the snapshot does not show."
            " Nothing was published.",
            "Run the sync again; if it repeats, re-copy the table and report this.",
        )
    if not paths:
        return
    key = column_list(work.table.key)
    ours = ", ".join(f"t.{quote(name)}" for name in work.table.key)
    for column in missing:
        slot = _slot(column)
        # The newest version of a life that ends without the value stands for all before it,
        # unless the log never tells the column: then each version may have had another value.
        alike = f"SELECT {key} FROM versions WHERE _rp_newest AND {slot} IS NULL"
        which = "t._rp_newest" if _never_told(work, column) else f"({ours}) IN ({alike})"
        work.session.execute(
            f"UPDATE versions AS t SET {slot} = {{'v': s.{quote(column.name)}}}"
            f" FROM {_local(paths)} AS s WHERE {_same_key(work, 't', 's')}"
            f" AND t.{slot} IS NULL AND t._rp_lives AND t._rp_op = 'u' AND {which}"
        )


def _read_keys(work: Work, keys: Sequence[tuple[str, ...]]) -> list[Path]:
    paths: list[Path] = []
    for start in range(0, len(keys), KEYS):
        paths += work.read(Keys(tuple(keys[start : start + KEYS])))
    return paths


def _from_lake(work: Work, missing: Sequence[Column]) -> None:
    """What a version in the batch replaced is still in the lake."""
    for column in missing:
        slot = _slot(column)
        open_ = f"{slot} IS NULL AND _rp_op = 'u' AND _rp_life = 0 AND NOT _rp_came"
        row = work.session.execute(f"SELECT count(*) FROM versions WHERE {open_}").fetchone()
        if row and row[0] and not _never_told(work, column):
            work.session.execute(
                f"UPDATE versions AS t SET {slot} = {{'v': l.{quote(column.name)}}}"
                f" FROM ({work.lake.rows_sql(work.table)}) AS l"
                f" WHERE {_same_key(work, 't', 'l')} AND {open_}"
            )


def _never_told(work: Work, column: Column) -> bool:
    row = work.session.execute(
        f"SELECT bool_and(list_contains({UNKNOWN}, {column.ordinal})) FROM versions"
        " WHERE _rp_op = 'u'"
    ).fetchone()
    return bool(row and row[0])


def _slot(column: Column) -> str:
    """Where a value is kept while it may be unknown: a struct, or NULL."""
    return f"_rp_value_{column.ordinal}"


def _same_key(work: Work, one: str, other: str) -> str:
    return " AND ".join(f"{one}.{quote(k)} = {other}.{quote(k)}" for k in work.table.key)


def _local(paths: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(literal(str(p)) for p in paths)}], union_by_name = true)"
