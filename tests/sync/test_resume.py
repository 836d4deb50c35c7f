"""A large table's copy that was killed goes on with the pieces it lacks, and ends right."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from repl_pipelines.errors import LakeDamaged, NotProven
from repl_pipelines.failpoints import Crash
from repl_pipelines.model.entry import Action, Entry
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sync import resume
from repl_pipelines.sync.engine import Replication
from tests.sync.conftest import Bench

ROWS = 4000
KEPT = 4  # pieces before the kill, of seven
NOTES = "lake/shop/public/orders/_pending/"
TOUCHED = (
    "update orders set note = 'new' where id in (5, 3990)",  # leaves its place, or its piece
    "update orders set id = -7 where id = 7",
    "delete from orders where id in (9, 3995)",
    "insert into orders values (5000, repeat('x', 200))",
)


@pytest.fixture
def killed(
    bench: Bench, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Replication:
    """A replication whose first sync died in the midst of its only table."""
    bench.protection = Protection(chunk=4 * 8192)
    bench.sql(
        "create table orders (id bigint primary key, note text)",
        f"insert into orders select g, repeat('x', 200) from generate_series(1, {ROWS}) g",
    )
    replication = bench.replication(Declaration("orders", mode=getattr(request, "param", Mode.LOG)))
    reached: list[str] = []

    def die(name: str) -> None:
        reached.append(name)
        if reached.count("sync.piece_kept") == KEPT:
            raise Crash(name)

    with monkeypatch.context() as patch:
        patch.setattr(resume, "reach", die)
        with pytest.raises(Crash):
            replication.sync()
    assert bench.lake.journal.heads() == {}
    return replication


def kept(bench: Bench) -> set[str]:
    """Files of the pieces that wait for the rest."""
    notes = [json.loads(bench.store.read(key) or b"") for key in bench.store.keys(NOTES)]
    return {file["path"] for note in notes for file in note["files"]}


def finish(bench: Bench, replication: Replication) -> tuple[Entry, set[str]]:
    """The next sync, which must end right; the files that the copy then consists of."""
    report = replication.sync()
    assert report.failed == {}
    bench.assert_equal(replication)
    assert bench.store.keys(NOTES) == []
    [table] = replication.tables()
    files = {file.path for file in bench.lake.table(table.name).files()}
    [entry] = report.entries
    return entry, files


@pytest.mark.parametrize("killed", [Mode.LOG, Mode.FULL], indirect=True)
def test_it_goes_on(bench: Bench, killed: Replication) -> None:
    before = kept(bench)
    bench.sql(*TOUCHED)
    entry, files = finish(bench, killed)
    assert len(before) >= KEPT
    assert before < files
    assert entry.action is Action.COPY
    assert entry.changed == ROWS - 1
    assert 0 < entry.reconciled < 10
    bench.sql("update orders set note = 'later' where id in (5, 100, 5000)")
    assert killed.sync().failed == {}
    bench.assert_equal(killed)


def test_pieces_that_hardly_help_are_read_again(bench: Bench, killed: Replication) -> None:
    before = kept(bench)
    bench.sql("update orders set note = note || id")
    entry, files = finish(bench, killed)
    assert not before & files
    assert entry.reconciled == 0


def alter(bench: Bench) -> None:
    bench.sql("alter table orders add column more int default 7")


def lose(bench: Bench) -> None:
    bench.store.delete([f"lake/shop/public/orders/{min(kept(bench))}"])


@pytest.mark.parametrize("harm", [alter, lose])
def test_pieces_of_no_use_are_left_out(
    bench: Bench, killed: Replication, harm: Callable[[Bench], None]
) -> None:
    before = kept(bench)
    harm(bench)
    entry, files = finish(bench, killed)
    assert not before <= files
    assert entry.reconciled == 0


def test_a_damaged_piece_is_met_once(bench: Bench, killed: Replication) -> None:
    key = f"lake/shop/public/orders/{min(kept(bench))}"
    bench.store.client().put_object(Bucket=bench.store.bucket, Key=key, Body=b"PAR1 no more")
    [error] = killed.sync().failed.values()
    assert isinstance(error, LakeDamaged)
    finish(bench, killed)


def test_what_is_new_is_proven_and_not_healed(
    bench: Bench, killed: Replication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no piece is of an older snapshot, a difference is a defect: nothing is published."""
    [table] = killed.tables()
    bench.lake.table(table.name).pending(1, "").forget()
    monkeypatch.setattr(resume.Work, "read_to_lake", lambda work, piece: [])
    [error] = killed.sync().failed.values()
    assert isinstance(error, NotProven)
    assert bench.lake.journal.heads() == {}
    assert bench.store.keys(NOTES) == []


def test_pieces_that_others_have_read_are_one_copy(bench: Bench) -> None:
    bench.protection = Protection(chunk=4 * 8192)
    bench.sql(
        "create table orders (id bigint primary key, note text)",
        f"insert into orders select g, repeat('x', 200) from generate_series(1, {ROWS}) g",
        "create table small (id bigint primary key)",
    )
    names = [Declaration("orders", mode=Mode.LOG), Declaration("small")]
    replication = bench.replication(*names)
    [(table, pieces)] = replication.pieces().items()
    assert len(pieces) == 8
    for i, piece in enumerate(pieces[1:]):  # each in a snapshot of its own
        bench.sql(TOUCHED[i % len(TOUCHED)] if i < len(TOUCHED) else "select 1")
        bench.replication(*names).keep(table, piece)
    replication.keep(table, pieces[1])  # by two at once
    assert [*replication.pieces().values()] == [[pieces[0]]]
    before = kept(bench)

    report = replication.sync()
    assert report.failed == {}
    bench.assert_equal(replication)
    files = {file.path for file in bench.lake.table(table).files()}
    assert len(before & files) > 5 * len(files - before) > 0  # one piece, and what was healed
    assert replication.pieces() == {}
    replication.keep(table, pieces[0])  # it came too late: nothing is to be done
    assert kept(bench) == set()
