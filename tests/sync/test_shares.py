"""A proof of a share of each table: what is due, in chunks, giving way, resumed where it ended."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines.errors import GrantMissing, ProofCutShort, StatementTimeout
from repl_pipelines.failpoints import Crash
from repl_pipelines.model.selection import Buckets
from repl_pipelines.model.table import Declaration, Mode, TableName
from repl_pipelines.proof.evidence import verify
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.postgres import source
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sources.postgres.measuring import Measuring
from repl_pipelines.sources.postgres.snapshot import PostgresSnapshot
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync import meter, share
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.meter import TableMeter, TimeOver
from repl_pipelines.sync.report import Progress, Proof
from repl_pipelines.sync.share import Due, Share
from tests.servers import fresh_name
from tests.sync.conftest import Bench

T = TableName("public", "t")
U = TableName("public", "u")
W = TableName("public", "w")
SCHEMA = (
    "create table t (id bigint primary key, note text)",
    "insert into t select g * 10, 'n' from generate_series(1, 4000) g",
    "create table u (id uuid primary key, note text)",
    "insert into u select gen_random_uuid(), 'n' from generate_series(1, 2000) g",
    "create table w (id text primary key)",
    "insert into w select md5(g::text) from generate_series(1, 500) g",
    "analyze t, u, w",
)


@dataclass
class Shop:
    """Table `t` lies in the order of its key, `u` does not, and the key of `w` has none."""

    bench: Bench
    patch: pytest.MonkeyPatch
    replication: Replication
    replica: str

    def prove(self, wanted: float, *, late: bool = False) -> dict[tuple[str, str], Proof]:
        """Compare so large a share of each table, or all of it; proofs by table and copy."""
        due = Due(wanted, math.inf if late or wanted == 1 else -math.inf)
        self.patch.setattr(Due, "of", lambda *_: due)
        verdict = self.replication.prove()
        assert not verdict.failed, verdict.failed
        return {(proof.table.name, proof.copy): proof for proof in verdict.proofs}

    def damage(self, statement: str) -> None:
        with psycopg.connect(self.replica, autocommit=True) as connection:
            connection.execute(statement.encode())

    def records(self, table: TableName) -> list[dict[str, Any]]:
        chain = list(self.bench.lake.evidence(table).records())
        assert not verify(chain).broken
        return [json.loads(content) for _, content in chain]


@pytest.fixture
def shop(bench: Bench, replica_database: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    bench.replicas.append(PostgresReplica("pg", replica_database, "shop"))
    bench.sql(*SCHEMA)
    monkeypatch.setattr(share, "FIRST_ROWS", 200)
    replication = bench.replication(Declaration("*", mode=Mode.LOG))
    replication.sync()
    bench.sql("insert into t values (7, 'new')", "delete from u where id::text < '1'")
    return Shop(bench, monkeypatch, replication, replica_database)


def test_shares_come_round_and_find_what_is_in_them(shop: Shop) -> None:
    whole = shop.prove(1)
    assert len(whole) == 6
    assert all(proof.proven and proof.cover is None for proof in whole.values())
    cost = whole["t", "lake"].cost
    assert cost
    assert cost.rows == whole["t", "lake"].source.rows == 4001
    assert cost.statements > 6, "in chunks"
    assert "coverage" not in shop.records(T)[-1]
    shop.patch.setattr(share, "SCAN", 1)
    first = shop.prove(0.3)
    for proof in first.values():
        assert proof.proven
        assert proof.cover
        # Chunks double as long as they are quick: what is wanted is met, and not by everything.
        assert 0.28 < proof.cover.share < 0.9
    assert first["t", "pg"].source.rows == first["t", "pg"].figure.rows < 3000
    [[lower, upper]] = shop.records(T)[-1]["proofs"][0]["cover"]["ranges"]
    assert lower == ""
    [[lower, end]] = shop.records(U)[-1]["proofs"][0]["cover"]["ranges"]
    assert (lower, end[9:]) == ("", "0000-0000-0000-000000000000"), "the key of no row"
    numbers = shop.records(W)[-1]["proofs"][0]["cover"]["buckets"]
    assert numbers == list(range(19))

    # Beyond what was just compared.
    shop.damage("update t set note = 'damage' where id = 40000")
    shop.damage("insert into t values (-3, 'ghost')")
    second = shop.prove(0.4)
    [[begins, _], *_] = shop.records(T)[-1]["proofs"][0]["cover"]["ranges"]
    assert begins == upper
    assert shop.records(W)[-1]["proofs"][0]["cover"]["buckets"] == list(range(19, 44))
    found = [second["t", "pg"]]
    while {d.key for proof in found for d in proof.found.listed} != {"id=40000", "id=-3"}:
        assert len(found) < 6, "a table is covered by its shares"
        found.append(shop.prove(0.4)["t", "pg"])
    assert any(not proof.proven and proof.cover for proof in found)
    late = shop.prove(0.01, late=True)
    assert [proof.cover for proof in late.values()] == [None] * 6
    assert {key for key, proof in late.items() if not proof.proven} == {("t", "pg")}
    assert late["t", "pg"].found.rows == 2
    report = shop.replication.repair()
    assert report.healed, report.failed
    assert {proof.cost.rows if proof.cost else 0 for proof in report.before.proofs} >= {4001, 500}
    assert all(proof.proven for proof in shop.prove(1).values())


def test_a_proof_goes_on_where_the_last_one_ended(shop: Shop) -> None:
    """Killed on its way, or out of time: what it recorded is not done again."""
    measured: list[Buckets] = []
    figures = PostgresSnapshot.figures

    def killed(self: PostgresSnapshot, table: Any, rows: Any, **how: Any) -> Any:
        if table.name == T and how.get("pace"):
            measured.append(rows)
            if len(measured) == 4:
                raise Crash("share")
        return figures(self, table, rows, **how)

    with shop.patch.context() as patch:
        patch.setattr(share, "RECORD", -1.0)
        patch.setattr(PostgresSnapshot, "figures", killed)
        with pytest.raises(Crash):
            shop.prove(1)
    recorded = shop.records(T)
    assert len(recorded) == 3
    [[begins, ended]] = recorded[-1]["proofs"][0]["cover"]["ranges"]
    assert (begins, ended) == ("", measured[3].within[0].lower)
    assert recorded[-1]["proofs"][0]["verdict"] == "equal"

    before = TableMeter.before_statement

    def hurried(self: TableMeter, share: float = 0.0) -> None:
        if self.cost.statements == 5:
            raise TimeOver
        before(self, share)

    with shop.patch.context() as patch:
        patch.setattr(TableMeter, "before_statement", hurried)
        partial = shop.prove(1)["t", "lake"]
    assert partial.proven
    assert partial.cover
    [span] = partial.cover.rows.within
    assert span.lower == ended
    assert 0 < partial.source.rows < 4001 - 3 * 200
    last = shop.prove(0.2)
    assert last["u", "lake"].cover is None, "one scan of all of it costs less"
    rest = last["t", "lake"]
    assert rest.cover
    assert rest.cover.rows.within[0].lower == span.upper

    shop.bench.protection = Protection(max_proof=0)
    shop.replication = shop.bench.replication(Declaration("*", mode=Mode.LOG))
    verdict = shop.replication.prove()
    assert {type(error) for error in verdict.failed.values()} == {ProofCutShort}
    assert not verdict.proofs


def test_a_scan_that_takes_too_long_is_made_in_several(shop: Shop) -> None:
    """Of fewer rows each: what one has compared is kept, whatever ends the next."""
    late: list[bool] = []
    scans: list[tuple[Buckets, int]] = []
    measure = Share._measure

    def measured(self: Share, rows: Buckets, *, scan: bool) -> None:
        before = self._source.total.rows
        measure(self, rows, scan=scan)
        scans.append((rows if scan else Buckets((), 0), self._source.total.rows - before))

    def too_long(_: float, __: float, allowed: float) -> bool:
        return math.isfinite(allowed) and (late.pop(0) if late[1:] else late[0])

    def prove(table: TableName, *answers: bool) -> dict[str, Proof]:
        """Each answer is for a scan; the last one for all that follow."""
        late[:] = answers
        scans.clear()
        verdict = shop.replication.prove([table])
        assert verdict.proven, verdict.failed
        return {proof.copy: proof for proof in verdict.proofs}

    shop.patch.setattr(Share, "_measure", measured)
    shop.patch.setattr(meter, "too_long", too_long)
    with shop.patch.context() as patch:
        patch.setattr(share, "RECORD", -1.0)
        whole = prove(W, True, True, False)["pg"]
    assert whole.cover is None
    assert [len(rows.numbers) for rows, _ in scans] == [16] * 4
    assert sum(rows for _, rows in scans) == whole.source.rows == whole.figure.rows == 500
    covers = [record["proofs"][0].get("cover") for record in shop.records(W)[-5:]]
    assert [len(cover["buckets"]) for cover in covers[:3]] == [16, 32, 48]
    assert covers[3:] == [None, None], "all of it"
    assert prove(W, True)["pg"].cover is None, "a bucket alone goes on"
    assert len(scans) == 64
    [(rows,)] = shop.bench.sql("select count(*) from u")
    whole = prove(U, True, True, False)["pg"]
    assert all(found.within for found, _ in scans)
    assert 400 < max(measured for _, measured in scans) < 1000
    assert sum(measured for _, measured in scans) == whole.source.rows == rows
    whole = prove(U, True)["pg"]
    assert not any(found.of for found, _ in scans), "through the index in the end"
    assert (whole.cover, sum(measured for _, measured in scans)) == (None, rows)

    ends = iter([False, False, True])

    def give_way(_: TableMeter) -> None:
        if next(ends):
            raise TimeOver

    shop.patch.setattr(TableMeter, "_give_way", give_way)
    half = prove(W, True, False)["pg"]
    assert half.cover
    assert half.cover.rows == Buckets(tuple(range(32)), 64)
    assert 0 < half.source.rows == half.figure.rows < 500


def test_scans_are_judged_while_there_is_time() -> None:
    judged = {share: meter.too_long(share, 50, 900) for share in (0.0, 0.05, 0.06)}
    assert judged == {0.0: True, 0.05: True, 0.06: False}
    assert not meter.too_long(0.0, 40, 900), "too early"
    assert not meter.too_long(0.2, 300, 900), "too late"


def test_a_proof_gives_way_to_others(shop: Shop) -> None:
    shop.bench.protection = Protection(max_load=0)
    told: list[Progress] = []
    with psycopg.connect(shop.bench.dsn, autocommit=True) as busy:
        asleep = threading.Thread(target=_sleep, args=[busy])
        asleep.start()

        def progress(one: Progress) -> None:
            told.append(one)
            if "waits" in one.step:
                busy.cancel()
                asleep.join()

        shop.patch.setattr(meter, "WAIT", 0.01)
        shop.patch.setattr(meter, "PACE", 0.0)
        shop.replication = Replication(
            "shop",
            PostgresSource("shop", shop.bench.dsn, shop.bench.protection),
            shop.bench.lake,
            [],
            [Declaration("t", mode=Mode.LOG)],
            progress=progress,
        )
        [proof] = shop.prove(1).values()
        asleep.join()
    assert proof.proven
    assert proof.cost
    assert proof.cost.pauses == 1
    [waiting] = [one.step for one in told if "waits" in one.step]
    assert "1 statements are at work, of 0" in waiting
    rows = [one.rows for one in told if one.step == "proving"]
    assert rows == sorted(rows)
    assert {one.total for one in told if one.step == "proving"} <= set(range(4000, 4002))

    role = fresh_name("reader").replace("-", "_")
    shop.bench.sql(f"create role {role} login password 'secret'")
    reader = PostgresSource(
        "shop", make_conninfo(shop.bench.dsn, user=role, password="secret"), Protection(max_load=1)
    )
    with reader.snapshot(()) as snapshot, pytest.raises(GrantMissing, match="pg_read_all_stats"):
        snapshot.strain()
    shop.bench.sql(f"drop role {role}")


def test_a_sync_that_scans_gives_way_to_others(shop: Shop) -> None:
    """In the modes that compare whole tables in the sync itself."""
    seen: list[str] = []
    watcher = source.watcher
    with psycopg.connect(shop.bench.dsn, autocommit=True) as busy:
        asleep = threading.Thread(target=_sleep, args=[busy])

        def watched(*given: Any) -> Callable[[], str]:
            ask = watcher(*given)

            def strain() -> str:
                why = ask()
                if why:
                    seen.append(why)
                    busy.cancel()
                    asleep.join()
                return why

            return strain

        shop.patch.setattr(source, "watcher", watched)
        shop.bench.protection = Protection(max_load=0)
        replication = shop.bench.replication(Declaration("t", mode=Mode.FULL))
        shop.bench.sql("update t set note = 'new' where id = 10")
        asleep.start()
        assert not replication.sync().failed
        asleep.join()
    assert seen == ["1 statements are at work, of 0"]
    shop.bench.assert_equal(replication)


def _sleep(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("select pg_sleep(600)")


def test_a_statement_that_takes_too_long_is_cut(shop: Shop) -> None:
    """Half as many rows, or pages, in the same snapshot."""
    sizes: dict[TableName, list[int]] = {T: [], U: [], W: [0, 0]}
    records = Measuring.records

    def slow(self: Measuring, table: Any, rows: Any, buckets: Any, chunk: Any) -> Any:
        found = records(self, table, rows, buckets, chunk)
        if not isinstance(rows, Buckets):
            return found  # of the sync
        sizes[table.name].append(sum(record[1] for record in found))
        if len(sizes[table.name]) <= 2:
            self._query(table, "SELECT pg_sleep(600)")
        return found

    shop.bench.protection = Protection(statement_timeout=1)
    shop.replication = shop.bench.replication(Declaration("*", mode=Mode.LOG))
    shop.patch.setattr(Measuring, "records", slow)
    proofs = shop.prove(1)
    assert all(proof.proven for proof in proofs.values())
    assert sizes[T][0] <= share.FIRST_ROWS
    for name, copy in (("t", T), ("u", U)):  # by ranges, and by pages
        first, second, third, *rest = sizes[copy]
        assert first > second > third
        assert third + sum(rest) == proofs[name, "lake"].source.rows
    shop.patch.setattr(share, "FIRST_ROWS", 1)
    sizes[T].clear()
    verdict = shop.replication.prove([T])
    assert {type(error) for error in verdict.failed.values()} == {StatementTimeout}
