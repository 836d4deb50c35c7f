"""Random damage to a file of the lake, by seed: found, at the right rows where it can be read.

REPL_PIPELINES_TRIALS says how often (a fiftieth of it); REPL_PIPELINES_SEED begins there.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from repl_pipelines.errors import LakeDamaged, ReplicationError
from repl_pipelines.model.table import Declaration, Table
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sync.engine import Replication
from tests.sync.conftest import Bench

TRIALS = int(os.environ.get("REPL_PIPELINES_TRIALS", "1000")) // 50
FIRST = int(os.environ.get("REPL_PIPELINES_SEED", "1"))
ROWS = 1200

Harm = Callable[[random.Random, bytes, bytes], bytes | None]  # of a file, and its older version


def removed(dice: random.Random, new: bytes, old: bytes) -> bytes | None:
    return None


def truncated(dice: random.Random, new: bytes, old: bytes) -> bytes | None:
    return new[: dice.randrange(len(new))]


def flipped(dice: random.Random, new: bytes, old: bytes) -> bytes | None:
    changed = bytearray(new)
    for _ in range(dice.choice([1, 1, 8])):
        changed[dice.randrange(len(new))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def older(dice: random.Random, new: bytes, old: bytes) -> bytes | None:
    return old


def altered(dice: random.Random, new: bytes, old: bytes) -> bytes | None:
    """One to a thousand rows, in a file that is as good as ours."""
    rows = pq.read_table(pa.BufferReader(new))
    amounts = rows["amount"].to_pylist()
    for number in dice.sample(range(ROWS), dice.choice([1, 2, 30, 1000])):
        amounts[number] += 1
    place = rows.schema.get_field_index("amount")
    rows = rows.set_column(place, rows.schema.field("amount"), pa.array(amounts, pa.int64()))
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    return sink.getvalue().to_pybytes()


HARMS: tuple[Harm, ...] = (removed, truncated, flipped, older, altered)


def read(bench: Bench, table: Table) -> set[tuple] | None:
    """What is there, by a query that knows no checksums; None: it cannot be read."""
    try:
        return set(bench.lake_rows(table))
    except (duckdb.Error, ReplicationError):
        return None


def judge(
    replication: Replication, table: Table, right: set[tuple], there: set[tuple] | None
) -> None:
    verdict = replication.prove(fresh=False)
    if there == right:  # the bits were nobody's
        assert verdict.proven
    elif there is None:
        assert isinstance(verdict.failed[table.name], LakeDamaged)
    else:
        [wrong] = [proof for proof in verdict.proofs if not proof.proven]
        keys = {f"id={row[0]}" for row in there ^ right}
        assert wrong.copy == "lake"
        assert {difference.key for difference in wrong.found.listed} <= keys
        assert wrong.found.rows == len(keys)


def test_random_damage_to_a_file_is_found(bench: Bench, replica_database: str) -> None:
    bench.sql(
        "create table t (id int primary key, amount bigint, note text)",
        f"insert into t select g, g, 'note ' || g from generate_series(1, {ROWS}) g",
    )
    bench.replicas.append(PostgresReplica("pg", replica_database, "shop"))
    replication = bench.replication(Declaration("t"))
    client, files = bench.store.client(), list[tuple[str, bytes]]()
    for statement in ("select", "update t set note = 'new' where id % 3 = 0"):
        bench.sql(statement)
        assert replication.prove().proven
        [table] = replication.tables()
        copy = bench.lake.table(table.name)
        [file] = copy.files()
        key = f"{copy.uri.removeprefix(f's3://{bench.bucket.name}/')}/{file.path}"
        body = client.get_object(Bucket=bench.bucket.name, Key=key)["Body"].read()
        files.append((key, body))
    (_, old), (key, new) = files
    right = set(bench.lake_rows(table))
    met: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + TRIALS):
        dice = random.Random(seed)
        harm = HARMS[seed % len(HARMS)]
        content = harm(dice, new, old)
        if content is None:
            client.delete_object(Bucket=bench.bucket.name, Key=key)
        else:
            client.put_object(Bucket=bench.bucket.name, Key=key, Body=content)
        there = read(bench, table)
        try:
            judge(replication, table, right, there)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {harm.__name__}") from error
        met[harm.__name__] += there != right
        client.put_object(Bucket=bench.bucket.name, Key=key, Body=new)
    assert all(met[harm.__name__] for harm in HARMS), met
    assert replication.prove(fresh=False).proven
