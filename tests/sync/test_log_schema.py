"""Mode log while tables change their shape: equal after the next sync, or stopped alone."""

from __future__ import annotations

import pytest

from repl_pipelines.errors import DeclarationError
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.sources.postgres.log import revision
from tests.sync.conftest import Bench
from tests.sync.logs import SLOT, following

# (what, DDL, update before it, update after it): of a table (id, a, b).
ALTERED = (
    ("add", "add c int default 7", "a = 1", "c = 8"),
    ("drop", "drop a", "a = 1", "b = 'after'"),
    ("rename", "rename a to a2", "a = 1", "a2 = 2"),
    ("swap", "rename a to a2; alter table swap rename b to a; alter table swap rename a2 to b"),
    ("retype", "alter a type text using 'no ' || a", "a = 1", "a = 'after'"),
    ("same", "alter a type int using -a", "a = 1", "a = 5"),
    ("there", "rename a to a2; update there set a2 = 3; alter table there rename a2 to a"),
    ("anew", "drop a; alter table anew add a int default 4", "a = 1", "a = 2"),
    ("fallen", "alter b set default 'x'", "a = 1", "a = 2"),
    ("volatile", "add c text default clock_timestamp()::text", "a = 1", "c = 'after'"),
    ("nulls", "alter a set not null", "a = 1", "a = 2"),
)


def make(bench: Bench, *names: str) -> None:
    for name in names:
        bench.sql(
            f"create table {name} (id int primary key, a int, b text)",
            f"insert into {name} select i, i, 'row ' || i from generate_series(1, 9) i",
        )


def test_altered_in_the_middle_of_a_batch(bench: Bench) -> None:
    """Rows before and after, in one batch and, where that is allowed, in one transaction."""
    make(bench, "bystander", *(name for name, *_ in ALTERED))
    with following(bench) as log:
        statements = ["update bystander set a = 0 where id = 1"]
        for name, ddl, *sets in ALTERED:
            before, after = sets or ("a = 1", "id = id")
            statements += [
                f"update {name} set {before} where id = 1",
                "begin",
                f"update {name} set {before} where id = 2",
                f"alter table {name} {ddl}",
                f"update {name} set {after} where id = 3",
                "commit",
                f"insert into {name} (id) values (10)" if name != "nulls" else "select",
                f"update {name} set {after} where id = 4",
            ]
        log.sync(*statements)
        assert log.gaps.pop("bystander") == ""
        assert all(log.gaps.values()), log.gaps
        # From here on the stream tells it all again.
        log.streamed(*(f"delete from {name} where id = 5" for name, *_ in ALTERED))


def test_out_of_the_publication_and_back(bench: Bench) -> None:
    """What was written meanwhile is in no stream."""
    make(bench, "out_", "unlogged", "stays")
    with following(bench) as log:
        log.compared(
            f"alter publication {SLOT} drop table out_, unlogged",
            "update out_ set a = 100 where id = 1",
            "delete from out_ where id = 2",
            "alter table unlogged set unlogged",
            "update unlogged set a = 100 where id = 1",
            "alter table unlogged set logged",
            f"alter publication {SLOT} add table out_, unlogged",
            "update out_ set a = 100 where id = 3",
            "update stays set a = 100 where id = 3",
            tables="out_ unlogged",
        )
        log.settled("update out_ set a = 101 where id = 4")
        # Left out for good: put back by the next sync, as the role may.
        log.compared(
            f"alter publication {SLOT} drop table out_", "update out_ set a = 7", tables="out_"
        )
        # And all of it, publication and stream, taken away and made anew.
        log.sync(f"drop publication {SLOT}", "update stays set a = 5 where id = 1")
        log.settled("update stays set a = 6 where id = 2")


def test_published_by_schema(bench: Bench) -> None:
    """A publication made by hand, of schemas: a table may leave its schema and come back."""
    make(bench, "t", "stays")
    bench.sql("create schema attic", f"create publication {SLOT} for tables in schema public")
    with following(bench) as log:
        log.compared(
            "alter table t set schema attic",
            "update attic.t set a = 100 where id = 1",
            "alter table attic.t set schema public",
            "update stays set a = 0 where id = 1",
            tables="t",
        )
        log.settled()
        log.compared(
            f"alter publication {SLOT} drop tables in schema public",
            "update stays set a = 100 where id = 1",
            f"alter publication {SLOT} add tables in schema public",
            tables="t stays",
        )


KEY = "id int, region text, v text, primary key (id, region)"
PARTED = (
    f"create table {{0}} ({KEY}) partition by list (region)",
    "create table {0}_e partition of {0} for values in ('east', 'north')",
    "create table {0}_w partition of {0} for values in ('west') partition by range (id)",
    "create table {0}_w1 partition of {0}_w for values from (0) to (1000)",
    "create table {0}_s (v text, region text not null, id int not null, primary key (id, region))",
    "insert into {0} select i, 'east', 'v' from generate_series(1, 10) i",
    "insert into {0}_s select 's', 'south', i from generate_series(21, 25) i",
)
MOVES = (
    "update {0} set region = 'west' where id = 1",
    "update {0} set region = 'north', v = 'n' where id = 2",
    "update {0} set region = 'west' where id = 3",
    "update {0} set region = 'east' where id = 3",
    "update {0}_e set v = 'leaf' where id = 4",
    "delete from {0} where id = 5",
    "insert into {0}_w values (30, 'west', 'w')",
    "begin",
    "delete from {0}_w where id = 30",
    "insert into {0}_w values (30, 'west', 'w2')",
    "commit",
)


@pytest.mark.parametrize("via_root", [True, False])
def test_partitions(bench: Bench, via_root: bool) -> None:
    """Ours is published by its root; one made by hand may name each partition."""
    bench.sql(*(s.format("p") for s in PARTED))
    # Its key is only declared and holds in all partitions; rows keep it when they move.
    bench.sql(*(s.format("q").replace("primary key", "unique") for s in PARTED))
    for leaf in ("q_e", "q_w1", "q_s"):
        bench.sql(f"alter table {leaf} replica identity full")
    if not via_root:
        bench.sql(f"create publication {SLOT} for table p, q")
    q = Declaration("q", mode=Mode.LOG, key=("id",))
    with following(bench, Declaration("p", mode=Mode.LOG), q) as log:
        log.streamed(*(s.format(t) for t in "pq" for s in MOVES))
        attach = "alter table {0} attach partition {0}_s for values in ('south')"
        log.compared(attach.format("p"), "update q set v = 'x' where id = 6", tables="p")
        log.streamed(
            "update p set v = 'x' where id = 21", "update p set region = 'south' where id = 6"
        )
        back = ("alter table p detach partition p_s", "update p_s set v = 'away' where id = 22")
        log.compared(*back, attach.format("p"), tables="p")
        log.compared("truncate q_e", "insert into q values (50, 'east', 'new')", tables="q")
        drop = "drop table p_e"
        log.compared("alter table p detach partition p_s", drop, "truncate q", tables="p q")


def test_a_partition_attached_behind_the_snapshot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog is read as the snapshot has it: the next sync sees that it came."""
    bench.sql(*(s.format("p") for s in PARTED))
    attach = "alter table p attach partition p_s for values in ('south')"
    with following(bench, Declaration("p", mode=Mode.LOG)) as log:
        plain, planned = revision.statement, [attach]

        def late(*arguments: object, **options: object) -> str:
            while planned:
                bench.sql(planned.pop())
            return plain(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(revision, "statement", late)
        log.attempt()
        assert not planned
        log.compared(tables="p")


def test_stops_alone(bench: Bench) -> None:
    """A table that cannot be read from the log any more says why; the others go on."""
    make(bench, "keyless", "silent", "gone", "filtered", "bystander")
    with following(bench) as log:
        _, failed = log.attempt(
            "alter table keyless drop constraint keyless_pkey, replica identity full",
            "alter table silent replica identity nothing",
            "drop table gone",
            f"alter publication {SLOT} drop table filtered",
            f"alter publication {SLOT} add table filtered where (id > 3)",
            "update bystander set a = 0",
            "update filtered set a = a + 1",
        )
        assert set(failed) == {"keyless", "silent", "filtered"}
        assert {type(error) for error in failed.values()} == {DeclarationError}
        assert "row filter" in str(failed["filtered"])
        log.assert_equal("bystander")
        entries = log.settled(
            "alter table keyless add primary key (id)",
            "alter table silent replica identity default",
            f"alter publication {SLOT} set table filtered, keyless, silent, bystander",
        )
        assert set(entries) == {"keyless", "silent", "filtered", "bystander"}
