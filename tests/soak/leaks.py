"""What must not be left when everything has ended: files, slots, sessions, uploads, memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import linear_regression
from typing import Any

import boto3
import psycopg

from tests.soak.place import NAME, Place

# A process is judged by its second half, and only if that is long; before it is still warming up.
ACTS = 20
SLACK = 24 * 2**20  # bytes: what a flat line rises by within a half, by chance
SLOT = f"repl_pipelines_{NAME}"
SESSIONS = """
    select coalesce(usename, '') || ' ' || application_name from pg_stat_activity
    where usename in ('replicator', 'replica') and backend_type = 'client backend'
"""
TEMPORARY = """
    select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = relnamespace
    where c.relpersistence <> 'p' and c.relkind in ('r', 'i')
    union all select 'prepared ' || gid from pg_prepared_xacts
"""


def left(place: Place, owner: str, copy: str) -> Iterator[str]:
    """What is there and should not be, each as a sentence. owner, copy: superusers' addresses."""
    for path in sorted(place.scratch.glob("*")):
        yield f"a file in scratch: {path.name}"
    yield from _more_than_two_files(place)
    for dsn, what in ((owner, "source"), (copy, "replica")):
        for row in _rows(dsn, SESSIONS):
            yield f"a session in the {what}: {row}"
        for row in _rows(dsn, TEMPORARY):
            yield f"in the {what}: {row}"
        for row in _rows(dsn, "select mode from pg_locks where locktype = 'advisory'"):
            yield f"an advisory lock in the {what}: {row}"
    slots = _rows(owner, "select slot_name from pg_replication_slots")
    if len(slots) != 1 or SLOT not in slots[0]:
        yield f"slots in the source: {slots}"
    for key in _uploads(place):
        yield f"an unfinished upload: {key}"


def grown(lives: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Processes whose memory rose through the second half of their lives, by what they told."""
    for life in lives:
        half = [told["memory"] for told in life[len(life) // 2 :]]
        if len(half) < ACTS:
            continue
        slope, _ = linear_regression(range(len(half)), half)
        if slope * len(half) > SLACK:
            line = " ".join(f"{memory / 2**20:.0f}" for memory in half)
            yield f"memory grew by {slope / 2**10:.0f} KiB an act: {line} MiB"


def _more_than_two_files(place: Place) -> Iterator[str]:
    """DuckDB keeps the file that readers see, and a spare one."""
    files = sorted(p.name for p in place.duckdb.glob("*") if p.is_file() and not p.is_symlink())
    databases = [name for name in files if name.endswith(".duckdb")]
    if len(databases) > 2:
        yield f"DuckDB files: {databases}"
    yield from (f"a DuckDB log: {name}" for name in files if name.endswith((".wal", ".tmp")))


def _rows(dsn: str, query: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        return [str(row[0]) for row in connection.execute(query.encode())]


def _uploads(place: Place) -> list[str]:
    client = boto3.client(
        "s3",
        endpoint_url=place.endpoint_url,
        aws_access_key_id=place.access_key,
        aws_secret_access_key=place.secret_key,
        region_name="us-east-1",
    )
    found = client.list_multipart_uploads(Bucket=place.bucket)
    return [upload["Key"] for upload in found.get("Uploads", [])]
