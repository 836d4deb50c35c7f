"""Transactions of any size are read from the binary log within the memory that is promised."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from repl_pipelines.model.table import TableName
from repl_pipelines.sources.mariadb.connection import Address
from tests.sources.binlogs import Binlog

PROMISED = 512 * 1024  # kB of a whole process, what it has imported included
# Of the first many bytes are in a value, and all of them in one event; of the second many more are
# in what a value becomes.
BLOBS = (
    "create table large (id int primary key, bytes blob)",
    "set binlog_transaction_compression = on",
    "insert into large select seq, random_bytes(1000) from seq_1_to_40000",
)
BITS = (
    "create table large (id int primary key, a bit(64), b bit(64), c bit(64), d bit(64))",
    "insert into large select seq, seq, seq, seq, seq from seq_1_to_450000",
)


def read(address: Address, directory: Path, horizons: dict[TableName, str]) -> tuple[int, int]:
    """Read the log from there on; the rows that it told, and the peak of this process in kB."""
    binlog = Binlog(address, directory, horizons=horizons)
    changes = binlog.read()["large"]
    assert (changes.gap, changes.problem) == ("", None)
    binlog.close()
    status = Path("/proc/self/status").read_text("utf-8").split()
    return changes.rows, int(status[status.index("VmHWM:") + 1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
@pytest.mark.parametrize(
    ("family_database", "statements"),
    [("mariadb", BITS), ("mysql", BLOBS)],
    indirect=["family_database"],
)
def test_a_large_transaction_is_read_in_bounded_memory(
    family_database: Address, tmp_path: Path, statements: tuple[str, ...]
) -> None:
    binlog = Binlog(family_database, tmp_path)
    binlog.sql(statements[0])
    binlog.copy()
    binlog.sql(*statements[1:])
    [(count,)] = binlog.sql("select count(*) from large")
    context = multiprocessing.get_context("spawn")  # with nothing of ours in its memory
    with ProcessPoolExecutor(1, context) as pool:
        rows, peak = pool.submit(read, family_database, tmp_path, binlog.horizons).result()
    binlog.close()
    assert rows == count
    assert peak < PROMISED
