"""A process that lives long: reading the lake leaves nothing behind in its memory."""

from __future__ import annotations

import pytest

from repl_pipelines.lake import lake as lakes
from repl_pipelines.lake.lake import Lake
from tests.heap import in_use
from tests.lake.copies import store
from tests.lake.test_journal import A, entry
from tests.servers import Bucket

READS = 300
SLACK = 200_000  # bytes; without a new DuckDB now and then it is a kilobyte or two a read


@pytest.mark.skipif(not in_use(), reason="only glibc from 2.33 on tells")
def test_reads_of_the_lake_leave_nothing_in_memory(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lakes, "SESSIONS", 50)
    lake = Lake(store(bucket), "shop")
    for batch in range(1, 6):  # a file each
        lake.journal.append([entry(A, batch)], "run")
    handle = lake.journal._log.open()
    assert handle is not None

    def read(times: int) -> int:
        for _ in range(times):
            assert len(lake.journal._read(handle, 0)) == 5
        return in_use()

    before = read(READS // 2)
    with lake.session() as held:  # of a DuckDB that is given up meanwhile
        held.execute("CREATE TEMP TABLE mine AS SELECT 1 AS one")
        read(READS)
        assert held.execute("SELECT one FROM mine").fetchall() == [(1,)]
    after = read(0)
    assert after - before < SLACK, f"{(after - before) / READS:.0f} bytes a read"
