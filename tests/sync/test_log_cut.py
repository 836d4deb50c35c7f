"""The exact cut: whatever is being written, a sync's copy is the source at the sync's position."""

from __future__ import annotations

import os

from repl_pipelines.model.entry import Action
from repl_pipelines.model.table import Declaration, Mode, TableName
from repl_pipelines.sync.engine import Replication
from tests.sync.conftest import Bench
from tests.sync.writers import SCHEMA, TORN, writing

LOG = Declaration("*", mode=Mode.LOG)
SYNCS = int(os.environ.get("REPL_PIPELINES_SYNCS", "8"))


def torn(bench: Bench, replication: Replication) -> int:
    """Orders in the lake whose lines do not add up."""
    names = {table.name.name: table for table in replication.tables()}
    with bench.lake.session() as session:
        for name in ("orders", "lines"):
            table = names[name]
            rows = bench.lake.table(table.name).rows_sql(table)
            session.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {rows}")
        found = session.execute(TORN).fetchone()
    return found[0] if found else -1


def test_copies_are_exact_under_eight_writers(bench: Bench) -> None:
    bench.sql(*SCHEMA)
    replication = bench.replication(LOG)
    assert not replication.sync().failed
    changed = 0
    with writing(bench.dsn, 8) as writers:
        for _ in range(SYNCS):
            verdict = replication.prove()
            assert not verdict.failed, verdict.failed
            assert verdict.proven, [p for p in verdict.proofs if not p.proven]
            assert torn(bench, replication) == 0
            entry = bench.lake.journal.newest()[TableName("public", "orders"), None].entry
            changed += entry.changed
            # From the stream alone: nothing had to be found by comparison.
            assert entry.action in {Action.CHANGES, Action.UNCHANGED}
            assert entry.reconciled == 0
    assert sum(writer.transactions for writer in writers) > SYNCS
    assert changed > SYNCS
    bench.sql(
        *(
            f"rollback prepared '{name}'"
            for (name,) in bench.sql("select gid from pg_prepared_xacts")
        )
    )
    assert not replication.sync().failed
    bench.assert_equal(replication)
