"""Two runs share one slot: what another run lets go of must not be missed by a table that joins."""

import pytest

from repl_pipelines.model.table import Declaration, Mode, TableName
from repl_pipelines.sources.postgres.connection import Connection
from repl_pipelines.sources.postgres.log import slot
from tests.sync.conftest import Bench

ORDERS, LINES = TableName("public", "orders"), TableName("public", "lines")


def test_a_table_joins_while_another_run_acknowledges(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shortest trace of tests/model, SLOT_LOOKED_AT_LATE in "runs share the slot"."""
    bench.sql(
        "create table orders (id int primary key)",
        "create table lines (id int primary key)",
    )
    declared = [Declaration("orders", mode=Mode.LOG), Declaration("lines", mode=Mode.LOG)]
    joining, other = bench.replication(*declared), bench.replication(*declared)
    assert not other.sync([ORDERS]).failed
    emit = slot.emit_marker

    def overtaken(connection: Connection, content: str) -> int:
        """After the snapshot of the run that joins, before it reads the stream."""
        monkeypatch.setattr(slot, "emit_marker", emit)
        bench.sql("insert into orders values (1)", "insert into lines values (1)")
        assert not other.sync([ORDERS]).failed
        return emit(connection, content)

    monkeypatch.setattr(slot, "emit_marker", overtaken)
    assert not joining.sync([LINES]).failed
    assert not joining.sync().failed
    bench.assert_equal(joining)
