"""What any source must do: subclass, make its tables, and every test here runs on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from repl_pipelines.duck import duckdb_type
from repl_pipelines.errors import (
    ColumnNotFound,
    CursorUnusable,
    DeclarationError,
    ReplicationError,
    SourceUnavailable,
    TableNotFound,
    ValueNotRepresentable,
)
from repl_pipelines.model.column import Family, Policy
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.selection import (
    Buckets,
    Everything,
    Keys,
    Partitions,
    Range,
    Selection,
    Since,
)
from repl_pipelines.model.sql import Constant, literal
from repl_pipelines.model.table import Declaration, Mode, Table, TimePartition
from repl_pipelines.proof.lake_figures import lake_figures
from repl_pipelines.sources.contract import Part, Snapshot, Source

STAMP: Mapping[str, Constant] = {
    "_rp_op": "r",
    "_rp_batch": 7,
    "_rp_seq": 0,
    "_rp_position": 42,
    "_rp_time": datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
}
DAYS = ("", "2026-11-01", "2026-11-02")
EVENTS = Declaration("events", partition=TimePartition("at"))
ORDERS = Declaration("orders", cursor="changed")


class SourceConformance:
    """Subclasses give the fixture `source` and the methods that raise NotImplementedError.

    Its default schema holds, in spellings of its own:
    orders  id integer key, note text, price decimal(8,2), changed: time with an index. Rows 1..100:
            note 'n<id>' (NULL for 10), price id + 0.25, changed on 2026-11-01 plus id minutes (NULL
            for 20)
    events  no key; at: time, kind text. Of 2026-11-01 three rows, two of them equal, of 2026-11-02
            one, and one whose time is NULL
    empty   id integer key
    pairs   a, b integers, without a key; (1, 1), (1, 2)
    """

    # A column of orders, and a value that its lake type cannot hold, as SQL.
    MISFIT: tuple[str, str]
    # The class of its driver's connections.
    CONNECTION: type
    # What is told of who holds a claim of the run `first`.
    HOLDER = "first"

    def schema(self, source: Source) -> str:
        """The default one, of the tables above."""
        raise NotImplementedError

    def execute(self, source: Source, statement: str) -> None:
        """Change the source as its application would, and commit."""
        raise NotImplementedError

    def in_transaction(self, source: Source, statement: str) -> AbstractContextManager[None]:
        """Execute in a transaction that commits at the end of the block."""
        raise NotImplementedError

    def unreachable(self, source: Source) -> Source:
        """The same at an address where nobody listens."""
        raise NotImplementedError

    def again(self, source: Source) -> Source:
        """The same, as another process would open it."""
        raise NotImplementedError

    # Surveys

    def test_tables_are_described(self, source: Source) -> None:
        tables = {t.name.name: t for t in source.discover([Declaration("*"), ORDERS, EVENTS])}
        assert {t.name.schema for t in tables.values()} == {self.schema(source)}
        assert {n: (t.mode, t.key) for n, t in tables.items()} == {
            "orders": (Mode.CURSOR, ("id",)),
            "events": (Mode.PARTITION, ()),
            "empty": (Mode.FULL, ("id",)),
            "pairs": (Mode.FULL, ()),
        }
        orders = tables["orders"]
        assert [(c.name, c.family, c.lake_type) for c in orders.columns[:3]] == [
            ("id", Family.INTEGER, "integer"),
            ("note", Family.TEXT, "string"),
            ("price", Family.DECIMAL, "decimal(8,2)"),
        ]
        assert (orders.cursor, orders.partition, orders.notes) == ("changed", None, ())
        assert orders.key_enforced
        assert tables["events"].partition == EVENTS.partition

    def test_one_problem_does_not_hide_the_other_tables(self, source: Source) -> None:
        wrong: list[tuple[Declaration, type[ReplicationError]]] = [
            (Declaration("order"), TableNotFound),
            (Declaration("nothing like *"), TableNotFound),
            (Declaration("orders", key=("nr",)), ColumnNotFound),
            (Declaration("events", cursor="at"), DeclarationError),
            (Declaration("pairs", partition=TimePartition("a")), DeclarationError),
        ]
        survey = source.survey([Declaration("*"), *(declaration for declaration, _ in wrong)])
        problems = {name.name: type(error) for name, error in survey.problems.items()}
        assert problems == {declaration.name: kind for declaration, kind in wrong}
        assert all(error.remedy for error in survey.problems.values())
        assert [table.name.name for table in survey.tables] == ["empty"]
        with pytest.raises(CursorUnusable, match=r"orders.*'note'"):
            source.discover([Declaration("orders", cursor="note")])

    def test_a_shape_has_a_fingerprint(self, source: Source) -> None:
        [before] = source.discover([Declaration("empty")])
        [again] = self.again(source).discover([Declaration("empty")])
        assert again.fingerprint == before.fingerprint
        seen = [before.fingerprint]
        for change in (
            "alter table empty add more integer",
            "alter table empty drop column more",
            "alter table empty add more integer",
            "drop table empty",
        ):
            self.execute(source, change)
            if change.startswith("drop"):
                self.execute(source, "create table empty (id integer primary key, more integer)")
            [table] = source.discover([Declaration("empty")])
            seen.append(table.fingerprint)
        # Without the column it may be what it was, but the column is not the one it was.
        assert len({*seen[:2], *seen[3:]}) == 4

    def test_an_unreachable_source_says_so(self, source: Source) -> None:
        nobody = self.unreachable(source)
        with pytest.raises(SourceUnavailable) as raised:
            nobody.survey([Declaration("*")])
        assert source.name in str(raised.value)
        with pytest.raises(SourceUnavailable), nobody.claim(["orders"], "r"):
            pass

    # Claims

    def test_a_claim_keeps_others_out_until_it_ends(self, source: Source) -> None:
        other = self.again(source)
        with source.claim(["orders", "events"], "first") as mine:
            assert mine == {"orders", "events"}
            with other.claim(["events", "empty"], "second") as theirs:
                assert theirs == {"empty"}
            assert self.HOLDER in source.holder("orders")
        with other.claim(["orders", "events"], "second") as theirs:
            assert theirs == {"orders", "events"}

    def test_a_claim_ends_before_its_session(
        self, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A busy server ends sessions late; the next sync would meet the claim of the last."""
        other, open_still = self.again(source), list[Any]()

        def linger(connection: Any) -> None:
            open_still.append(connection)

        with monkeypatch.context() as patch:
            patch.setattr(self.CONNECTION, "close", linger)
            with source.claim(["orders"], "first"):
                pass
        with other.claim(["orders"], "second") as theirs:
            assert theirs == {"orders"}
        for connection in open_still:
            connection.close()

    # Snapshots

    def test_a_snapshot_does_not_move(self, source: Source, tmp_path: Path) -> None:
        orders = self.table(source, ORDERS)
        with source.snapshot([orders]) as snapshot:
            self.execute(source, "delete from orders where id > 50")
            self.execute(source, "update orders set note = 'x' where id <= 50")
            everything = self.rows(snapshot, orders, Everything(), tmp_path)
            assert len(everything) == 100
            assert everything[0][:2] == (1, "n1")
            assert snapshot.figures(orders, Everything()).total.rows == 100
            first = snapshot.position
        with source.snapshot([orders]) as snapshot:
            assert len(self.rows(snapshot, orders, Everything(), tmp_path)) == 50
            assert snapshot.position.after(first)

    def test_several_threads_see_the_same_rows(self, source: Source, tmp_path: Path) -> None:
        orders, events = (self.table(source, d) for d in (ORDERS, EVENTS))
        with source.snapshot([orders, events]) as snapshot, ThreadPoolExecutor(6) as pool:
            self.execute(source, "delete from orders")
            looks = [pool.submit(snapshot.figures, orders, Everything()) for _ in range(4)]
            reads = [
                pool.submit(self.rows, snapshot, orders, Everything(), tmp_path) for _ in range(4)
            ]
            figures = {str(look.result().total) for look in looks}
            rows = [read.result() for read in reads]
        assert len(figures) == 1
        assert all(found == rows[0] for found in rows)
        assert len(rows[0]) == 100

    # Extraction

    def test_parts_are_in_lake_types_with_the_stamp(self, source: Source, tmp_path: Path) -> None:
        orders = self.table(source, ORDERS)
        with source.snapshot([orders]) as snapshot:
            parts = self.parts(snapshot, orders, Everything(), tmp_path)
        assert sum(part.rows for part in parts) == 100
        assert all(not part.misfits and part.path.parent == tmp_path for part in parts)
        with duckdb.connect() as session:
            described = session.execute(f"DESCRIBE FROM {scan(parts)}").fetchall()
            stamps = session.execute(
                f"SELECT DISTINCT {', '.join(STAMP)} FROM {scan(parts)}"
            ).fetchall()
        kinds = {name: kind for name, kind, *_ in described if name not in STAMP}
        assert kinds == {c.name: duckdb_type(c.lake_type) for c in orders.columns}
        assert stamps == [tuple(STAMP.values())]

    @pytest.mark.parametrize(
        ("selection", "ids"),
        [
            (Everything(), range(1, 101)),
            (Since(None), range(1, 101)),
            (Range("id", "10", "20"), range(10, 20)),
            (Range("id", "90", None), range(90, 101)),
            (Range("id", None, "3"), range(1, 3)),
            (Keys((("7",), ("99",), ("1234",))), (7, 99)),
            (Keys(()), ()),
        ],
        ids=str,
    )
    def test_selections(
        self, source: Source, selection: Selection, ids: Sequence[int], tmp_path: Path
    ) -> None:
        orders = self.table(source, ORDERS)
        with source.snapshot([orders]) as snapshot:
            rows = self.rows(snapshot, orders, selection, tmp_path)
            figures = snapshot.figures(orders, selection)
        assert [row[0] for row in rows] == list(ids)
        assert figures.total.rows == len(ids)

    def test_buckets_cut_a_table_without_rest(self, source: Source, tmp_path: Path) -> None:
        orders = self.table(source, ORDERS)
        with source.snapshot([orders]) as snapshot:
            groups = snapshot.figures(orders, Everything(), buckets=8).groups
            halves = [Buckets(tuple(range(n, 8, 2)), 8) for n in range(2)]
            ids = [[r[0] for r in self.rows(snapshot, orders, h, tmp_path)] for h in halves]
            for half, found in zip(halves, ids, strict=True):
                wanted = sum(groups[str(number)].rows for number in half.numbers)
                assert len(found) == wanted > 0
            assert self.rows(snapshot, orders, Buckets((), 8), tmp_path) == []
        assert sorted([*ids[0], *ids[1]]) == list(range(1, 101))

    def test_partitions_cut_a_table_without_rest(self, source: Source, tmp_path: Path) -> None:
        events = self.table(source, EVENTS)
        with source.snapshot([events]) as snapshot:
            groups = snapshot.figures(events, Everything()).groups
            assert {key: figure.rows for key, figure in groups.items()} == dict(
                zip(DAYS, (1, 3, 1), strict=True)
            )
            for key in DAYS:
                only = Partitions((key,))
                assert len(self.rows(snapshot, events, only, tmp_path)) == groups[key].rows
                assert snapshot.figures(events, only).groups == {key: groups[key]}
            assert len(self.rows(snapshot, events, Partitions(DAYS), tmp_path)) == 5
            assert self.rows(snapshot, events, Partitions(("2026-11-03",)), tmp_path) == []

    def test_a_closed_extraction_stops(self, source: Source, tmp_path: Path) -> None:
        orders = self.table(source, ORDERS)
        with source.snapshot([orders]) as snapshot:
            snapshot.extract(orders, Everything(), tmp_path, STAMP).close()
            with closing(snapshot.extract(orders, Everything(), tmp_path, STAMP)) as parts:
                next(parts)
            assert snapshot.figures(orders, Everything()).total.rows == 100

    # Figures

    @pytest.mark.parametrize("declaration", [ORDERS, EVENTS, Declaration("empty")], ids=str)
    def test_figures_are_those_of_the_extracted_rows(
        self, source: Source, declaration: Declaration, tmp_path: Path
    ) -> None:
        table = self.table(source, declaration)
        with source.snapshot([table]) as snapshot, duckdb.connect() as session:
            session.execute("SET TimeZone = 'UTC'")
            rows = f"SELECT * FROM {scan(self.parts(snapshot, table, Everything(), tmp_path))}"
            for buckets in (None, 1, 16):
                figures = snapshot.figures(table, Everything(), buckets=buckets)
                assert figures == lake_figures(session, table, rows, buckets=buckets)
                assert (figures == Figures({})) == (table.name.name == "empty")

    @pytest.mark.parametrize(
        "change",
        [
            "update orders set note = '' where id = 10",
            "update orders set note = 'n1 ' where id = 1",
            "update orders set price = price + 0.01 where id = 1",
            "update orders set changed = null where id = 1",
            "delete from orders where id = 1",
            "update orders set note = case id when 1 then 'n2' else 'n1' end where id in (1, 2)",
        ],
    )
    def test_any_change_moves_the_figures(self, source: Source, change: str) -> None:
        orders = self.table(source, ORDERS)
        totals: list[object] = []
        for statement in ("update orders set id = id", change):
            self.execute(source, statement)
            with source.snapshot([orders]) as snapshot:
                totals.append(snapshot.figures(orders, Everything()).total)
        assert totals[0] != totals[1]

    # Keys and values

    def test_a_key_is_the_sources_own_unless_declared(self, source: Source) -> None:
        declared = {None: ("id",), (): (), ("note",): ("note",)}
        for key, found in declared.items():
            assert self.table(source, Declaration("orders", key=key)).key == found

    def test_a_key_that_is_none_is_found(self, source: Source) -> None:
        keys = {("a", "b"): None, ("a",): "1"}
        for key, duplicate in keys.items():
            table = self.table(source, Declaration("pairs", key=key))
            assert not table.key_enforced
            with source.snapshot([table]) as snapshot:
                assert snapshot.duplicate_key(table) == duplicate
        self.execute(source, "insert into pairs values (5, null)")
        table = self.table(source, Declaration("pairs", key=("a", "b")))
        with source.snapshot([table]) as snapshot:
            assert "5" in str(snapshot.duplicate_key(table))

    def test_misfits_by_policy(self, source: Source, tmp_path: Path) -> None:
        name, value = self.MISFIT
        self.execute(source, f"update orders set {name} = {value} where id = 77")
        for policy in (Policy.FAIL, Policy.TEXT, Policy.NULL):
            orders = self.table(source, Declaration("orders", policies={name: policy}))
            with source.snapshot([orders]) as snapshot:
                if policy is Policy.FAIL:
                    with pytest.raises(ValueNotRepresentable, match=rf"orders.*'{name}'.*77"):
                        self.parts(snapshot, orders, Everything(), tmp_path)
                    continue
                parts = self.parts(snapshot, orders, Everything(), tmp_path)
            null = policy is Policy.NULL
            assert sum(part.misfits.get(name, 0) for part in parts) == (1 if null else 0)
            with duckdb.connect() as session:
                query = f"SELECT {name}::VARCHAR FROM {scan(parts)} WHERE id = 77"
                [(value,)] = session.execute(query).fetchall()
            assert (value is None) == null

    # Cursors

    def test_a_horizon_misses_no_late_commit(self, source: Source, tmp_path: Path) -> None:
        orders = self.table(source, ORDERS)
        with self.in_transaction(
            source, "insert into orders values (200, 'late', 1, current_timestamp)"
        ):
            self.execute(source, "insert into orders values (201, 'early', 1, current_timestamp)")
            with source.snapshot([orders]) as snapshot:
                horizon = snapshot.horizon(orders, None)
                first = self.rows(snapshot, orders, Since(None), tmp_path)
        with source.snapshot([orders]) as snapshot:
            second = self.rows(snapshot, orders, Since(horizon), tmp_path)
            assert snapshot.horizon(orders, horizon) is not None
        assert 201 in {row[0] for row in first}
        assert 200 not in {row[0] for row in first}
        assert 200 in {row[0] for row in second}
        assert 20 in {row[0] for row in second}  # its cursor is NULL
        assert 1 not in {row[0] for row in second}

    # For the tests above

    def table(self, source: Source, declaration: Declaration) -> Table:
        [table] = source.discover([declaration])
        return table

    def parts(
        self, snapshot: Snapshot, table: Table, selection: Selection, directory: Path
    ) -> list[Part]:
        with closing(snapshot.extract(table, selection, directory, STAMP)) as parts:
            return list(parts)

    def rows(
        self, snapshot: Snapshot, table: Table, selection: Selection, directory: Path
    ) -> list[tuple]:
        """The selected rows without their stamp, sorted."""
        parts = self.parts(snapshot, table, selection, directory)
        hidden = ", ".join(STAMP)
        with duckdb.connect() as session:
            query = f"SELECT * EXCLUDE ({hidden}) FROM {scan(parts)} ORDER BY ALL"
            return session.execute(query).fetchall()


def scan(parts: Sequence[Part]) -> str:
    return f"read_parquet([{', '.join(literal(str(part.path)) for part in parts)}])"
