"""Values of every type by the source's log: the same in the lake as those that a reader copies."""

from __future__ import annotations

from repl_pipelines.errors import ValueNotRepresentable
from repl_pipelines.model.column import Policy
from repl_pipelines.model.selection import Everything
from repl_pipelines.model.table import Declaration, Mode
from tests.servers import Bucket
from tests.sync.conftest import Bench
from tests.sync.logs import LOG, following
from tests.types.every import COLUMNS, CREATE, ROWS, fill


def test_values_arrive_by_the_stream_as_by_a_reader(database: str, bucket: Bucket) -> None:
    """One column for each type; its values inserted, then updated to others."""
    bench = Bench(database, bucket)
    bench.sql(CREATE)
    moves = ", ".join(f"{name} = o.{name}" for name in COLUMNS)
    with following(bench, Declaration("every", mode=Mode.LOG)) as log:
        fill(bench.connection)
        bench.sql(
            f"update every e set {moves} from every o where o.id = e.id + 30 and e.id < 30",
            "delete from every where id = 0",
        )
        entries, failed = log.attempt()
        assert failed == {}
        assert log.gaps == {"every": ""}
        assert entries["every"].changed >= ROWS
        table = log.table("every")
        streamed = bench.lake_rows(table)
        log.replication.sync(recopy={table.name: Everything()})
        for ours, theirs in zip(streamed, bench.lake_rows(table), strict=True):
            assert ours == theirs
    bench.connection.close()


def test_misfits(database: str, bucket: Bucket) -> None:
    """A value without a place in the lake follows the column's policy, as in a copy."""
    bench = Bench(database, bucket)
    columns = "id int primary key, n numeric(10,2), at timestamptz, d date"
    for name in ("as_null", "as_text", "strict"):
        bench.sql(f"create table {name} ({columns})")
    policies = {
        name: dict.fromkeys(("n", "at", "d"), policy)
        for name, policy in (("as_null", Policy.NULL), ("as_text", Policy.TEXT))
    }
    named = [Declaration(n, mode=Mode.LOG, policies=p) for n, p in policies.items()]
    with following(bench, LOG, *named) as log:
        inserts = [
            f"insert into {t} values (1, 'NaN', '294276-12-31 12:00+00', '2024-02-29'),"
            " (2, 1.50, '0044-03-15 12:00:00+00 BC', null),"
            " (3, null, 'infinity', null)"
            for t in ("as_null", "as_text", "strict")
        ]
        entries, failed = log.attempt(*inserts)
        assert set(failed) == {"strict"}
        assert isinstance(failed["strict"], ValueNotRepresentable)
        assert "'n'" in str(failed["strict"])
        assert "key 1" in str(failed["strict"])
        log.assert_equal("as_text")
        assert entries["as_null"].misfits == '{"at": 1, "n": 1}'
        assert log.gaps["as_null"] == log.gaps["as_text"] == ""
        bench.sql("delete from strict where id = 1", "delete from as_null where id = 1")
        log.sync()
        log.streamed("update strict set n = 2", "update as_null set n = 2")
    bench.connection.close()
