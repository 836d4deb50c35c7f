"""What any replica must do: subclass, give it a replica, and every test here runs on it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from repl_pipelines.errors import ForeignReplica, LakeDamaged, SyncInProgress
from repl_pipelines.lake import current
from repl_pipelines.lake.journal import Journal, Keep
from repl_pipelines.lake.locations import journal_location
from repl_pipelines.model.column import Column
from repl_pipelines.model.figures import Figures, differences
from repl_pipelines.model.selection import Buckets
from repl_pipelines.model.table import Mode, Table
from repl_pipelines.proof.bisect import Depth, bisect
from repl_pipelines.proof.relation import ALL, duckdb_relation
from repl_pipelines.replicas.contract import Correction, Replica
from tests.replicas.world import World, column, table
from tests.servers import Bucket

ORDERS = table(
    "orders",
    {
        "id": "bigint",
        "customer": "text",
        "amount": "numeric(12,2)",
        "placed": "timestamp with time zone",
    },
)
LINES = table(
    "lines",
    {"order_id": "bigint", "line": "integer", "sku": "uuid", "data": "bytea"},
    ("order_id", "line"),
)
EVENTS = table(
    "events",
    {"id": "bigint", "at": "timestamp with time zone", "what": "text"},
    mode=Mode.PARTITION,
    partition="at",
)
NOTES = table("notes", {"n": "integer", "text": "text"}, (), mode=Mode.FULL)
PRICES = table("prices", {"id": "bigint", "price": "double precision"}, mode=Mode.FULL)

SWAP = "UPDATE {}orders SET customer = CASE id WHEN 3 THEN 'd' ELSE 'c' END WHERE id IN (3, 4)"
TEXTS = [
    "",
    " ",
    "a\tb\nc\r\\N",
    "\\.",
    "a\n\\.\nb",
    'it\'s "so"',
    "ümläut 🐘",
    "NULL",
    "\\x",
    "%s",
]


def order(number: int, customer: str | None = "c") -> dict[str, Any]:
    placed = datetime(2026, 11, 22, 1, 2, 3, number, tzinfo=UTC)
    return {"id": number, "customer": customer, "amount": Decimal(number) / 4, "placed": placed}


def line(number: int, part: int = 1) -> dict[str, Any]:
    sku = f"00000000-0000-4000-8000-{number:012x}"
    return {"order_id": number, "line": part, "sku": sku, "data": bytes([0, number % 256, 92, 10])}


def event(number: int, day: int | None, what: str = "e") -> dict[str, Any]:
    at = None if day is None else datetime(2026, 11, day, 23, 59, 59, tzinfo=UTC)
    return {"id": number, "at": at, "what": what}


class ReplicaConformance:
    """Subclasses give the fixture `replica` and the methods that raise NotImplementedError."""

    @pytest.fixture
    def world(self, bucket: Bucket) -> World:
        return World(bucket)

    def rows(self, replica: Replica, table: Table) -> list[tuple[Any, ...]]:
        """All rows of a table by a fresh connection, as its reader gets them."""
        raise NotImplementedError

    def alter(self, replica: Replica, statement: str) -> None:
        """Change the replica behind its back; `{}` is what a table's name begins with."""
        raise NotImplementedError

    def other(self, replica: Replica) -> Replica:
        """The same place, for another replication."""
        raise NotImplementedError

    # Filling and catching up

    def test_an_empty_lake_gives_an_empty_replica(self, world: World, replica: Replica) -> None:
        assert replica.apply(world.lake, [ORDERS], "r") == {}
        assert replica.sync_number() == 0

    def test_a_new_replica_is_filled_from_the_lake(self, world: World, replica: Replica) -> None:
        texts = [order(i, text) for i, text in enumerate([*TEXTS, None], 1)]
        world.load(ORDERS, texts)
        world.load(LINES, [line(1), line(1, 2), line(2)])
        number = world.publish()
        applied = replica.apply(world.lake, [ORDERS, LINES], "r")
        assert {str(n): (a.changed, a.rows, a.reloaded) for n, a in applied.items()} == {
            "shop.orders": (11, 11, True),
            "shop.lines": (3, 3, True),
        }
        assert replica.sync_number() == number == applied[ORDERS.name].sync
        assert sorted(self.rows(replica, ORDERS)) == sorted(tuple(row.values()) for row in texts)
        assert {(str(r[2]), bytes(r[3])) for r in self.rows(replica, LINES)} == {
            (line(i)["sku"], line(i)["data"]) for i in (1, 2)
        }
        self.assert_equal(world, replica, [ORDERS, LINES])

    def test_one_away_for_ten_syncs_catches_up_with_changes_alone(
        self, world: World, replica: Replica
    ) -> None:
        world.load(ORDERS, [order(i) for i in range(1, 6)])
        world.load(LINES, [line(i) for i in range(1, 6)])
        world.publish()
        replica.apply(world.lake, [ORDERS, LINES], "r")
        for turn in range(10):
            world.change(ORDERS, [order(1, f"turn {turn}"), order(10 + turn)], [{"id": 9 + turn}])
            if turn == 3:
                world.change(
                    LINES, [line(2, 2)], [{"order_id": 2, "line": 1}, {"order_id": 9, "line": 9}]
                )
            else:
                world.unchanged(LINES)
            world.publish()
        applied = replica.apply(world.lake, [ORDERS, LINES], "r")
        assert not any(a.reloaded for a in applied.values())
        assert sorted(r[:2] for r in self.rows(replica, ORDERS)) == [
            (1, "turn 9"),
            (2, "c"),
            (3, "c"),
            (4, "c"),
            (5, "c"),
            (19, "c"),
        ]
        assert applied[ORDERS.name].rows == 6
        assert applied[LINES.name].rows == 5
        assert sorted(r[:2] for r in self.rows(replica, LINES)) == [
            (1, 1),
            (2, 2),
            (3, 1),
            (4, 1),
            (5, 1),
        ]
        self.assert_equal(world, replica, [ORDERS, LINES])

    def test_nothing_new_changes_nothing(self, world: World, replica: Replica) -> None:
        world.load(ORDERS, [order(1)])
        number = world.publish()
        replica.apply(world.lake, [ORDERS], "r")
        again = replica.apply(world.lake, [ORDERS], "r")[ORDERS.name]
        assert (again.sync, again.changed, again.rows, again.reloaded) == (number, 0, 1, False)
        world.unchanged(ORDERS)
        assert world.publish() == number + 1
        moved = replica.apply(world.lake, [ORDERS], "r")[ORDERS.name]
        assert (moved.sync, moved.changed, moved.rows) == (number + 1, 0, 1)
        assert replica.sync_number() == number + 1

    def test_every_sync_is_applied_once_in_turn(self, world: World, replica: Replica) -> None:
        world.load(ORDERS, [order(i) for i in range(3)])
        world.publish()
        for turn in range(4):
            replica.apply(world.lake, [ORDERS], "r")
            self.assert_equal(world, replica, [ORDERS])
            world.change(ORDERS, [order(100 + turn), order(0, str(turn))], [{"id": 99 + turn}])
            world.publish()
        done = replica.apply(world.lake, [ORDERS], "r")[ORDERS.name]
        assert (done.rows, done.changed, done.reloaded) == (4, 3, False)
        self.assert_equal(world, replica, [ORDERS])

    def test_a_changed_key_is_a_delete_and_an_insert(self, world: World, replica: Replica) -> None:
        world.load(LINES, [line(1), line(2), line(3)])
        world.publish()
        replica.apply(world.lake, [LINES], "r")
        # Keys 1 and 2 change places, 3 becomes 4.
        swapped = [line(1) | {"order_id": 2}, line(2) | {"order_id": 1}, line(3) | {"order_id": 4}]
        world.change(LINES, swapped, [{"order_id": 3, "line": 1}])
        world.publish()
        replica.apply(world.lake, [LINES], "r")
        assert sorted((r[0], str(r[2])[-1]) for r in self.rows(replica, LINES)) == [
            (1, "2"),
            (2, "1"),
            (4, "3"),
        ]
        self.assert_equal(world, replica, [LINES])

    def test_a_table_added_later_is_filled_while_others_get_changes(
        self, world: World, replica: Replica
    ) -> None:
        world.load(ORDERS, [order(1)])
        world.publish()
        replica.apply(world.lake, [ORDERS], "r")
        world.load(LINES, [line(1)])
        world.change(ORDERS, [order(2)])
        world.publish()
        applied = replica.apply(world.lake, [ORDERS, LINES], "r")
        assert [applied[t.name].reloaded for t in (ORDERS, LINES)] == [False, True]
        self.assert_equal(world, replica, [ORDERS, LINES])

    def test_a_table_no_longer_declared_stays_as_it_was(
        self, world: World, replica: Replica
    ) -> None:
        world.load(ORDERS, [order(1)])
        world.load(LINES, [line(1)])
        world.publish()
        replica.apply(world.lake, [ORDERS, LINES], "r")
        for turn in range(3):
            world.change(ORDERS, [order(10 + turn)])
            world.change(LINES, [line(10 + turn)])
            world.publish()
            given = [ORDERS, LINES] if turn == 0 else [ORDERS]
            replica.apply(world.lake, given, "r")
            assert len(self.rows(replica, ORDERS)) == turn + 2
            assert len(self.rows(replica, LINES)) == 2
        applied = replica.apply(world.lake, [ORDERS, LINES], "r")
        assert (applied[LINES.name].reloaded, applied[LINES.name].rows) == (False, 4)
        self.assert_equal(world, replica, [ORDERS, LINES])

    # Copies

    def test_partitions_are_replaced_as_wholes(self, world: World, replica: Replica) -> None:
        world.replace(EVENTS, "2026-11-20", [event(1, 20), event(2, 20)])
        world.replace(EVENTS, "2026-11-21", [event(3, 21)])
        world.replace(EVENTS, "", [event(4, None)])
        world.publish()
        replica.apply(world.lake, [EVENTS], "r")
        self.assert_equal(world, replica, [EVENTS])
        # Event 2 moves to the 21st, which alone is read again: until the 20th is, there are two.
        world.replace(EVENTS, "2026-11-21", [event(2, 21, "moved"), event(5, 21)])
        world.replace(EVENTS, "", [])
        world.publish()
        applied = replica.apply(world.lake, [EVENTS], "r")[EVENTS.name]
        assert (applied.rows, applied.reloaded) == (4, False)
        assert sorted(r[0] for r in self.rows(replica, EVENTS)) == [1, 2, 2, 5]
        assert figures(replica, EVENTS).groups.keys() == {"2026-11-20", "2026-11-21"}
        self.assert_equal(world, replica, [EVENTS])

    def test_a_table_without_key_keeps_its_duplicates(self, world: World, replica: Replica) -> None:
        world.load(NOTES, [{"n": 1, "text": None}] * 2 + [{"n": None, "text": ""}])
        world.publish()
        replica.apply(world.lake, [NOTES], "r")
        assert sorted(self.rows(replica, NOTES), key=str) == [(1, None), (1, None), (None, "")]
        world.load(NOTES, [{"n": 1, "text": None}] * 3)
        world.publish()
        applied = replica.apply(world.lake, [NOTES], "r")[NOTES.name]
        assert (applied.rows, applied.reloaded) == (3, True)
        self.assert_equal(world, replica, [NOTES])

    def test_a_copy_of_the_whole_table_replaces_it(self, world: World, replica: Replica) -> None:
        world.load(
            PRICES, [{"id": 1, "price": 0.0}, {"id": 2, "price": 1.5}, {"id": 3, "price": 1}]
        )
        world.publish()
        replica.apply(world.lake, [PRICES], "r")
        # -0.0 equals 0.0 in SQL, and is another value all the same.
        world.load(
            PRICES, [{"id": 1, "price": -0.0}, {"id": 2, "price": 1.5}, {"id": 4, "price": None}]
        )
        world.publish()
        applied = replica.apply(world.lake, [PRICES], "r")[PRICES.name]
        assert (applied.rows, applied.reloaded) == (3, True)
        assert sorted(str(r[1]) for r in self.rows(replica, PRICES)) == ["-0.0", "1.5", "None"]
        self.assert_equal(world, replica, [PRICES])

    @pytest.mark.parametrize("key", [(), ("id",)])
    def test_no_rows(self, world: World, replica: Replica, key: tuple[str, ...]) -> None:
        empty = replace(ORDERS, key=key)
        world.load(empty, [])
        world.publish()
        applied = replica.apply(world.lake, [empty], "r")[empty.name]
        assert (applied.rows, applied.reloaded) == (0, True)
        assert self.rows(replica, empty) == []
        self.assert_equal(world, replica, [empty])

    def test_no_columns(self, world: World, replica: Replica) -> None:
        bare = table("bare", {}, (), mode=Mode.FULL)
        world.load(bare, [{}, {}])
        world.publish()
        assert replica.apply(world.lake, [bare], "r")[bare.name].rows == 2
        assert len(self.rows(replica, bare)) == 2
        self.assert_equal(world, replica, [bare])
        world.load(bare, [{}])
        world.publish()
        assert replica.apply(world.lake, [bare], "r")[bare.name].rows == 1
        self.assert_equal(world, replica, [bare])

    def test_odd_names(self, world: World, replica: Replica) -> None:
        names = {'se"lect': "bigint", "it's %s {0}": "text", "Grüße 🐘": "text", "order by": "text"}
        odd = table('ta"ble %s', names, ('se"lect',), schema="My Schema; --")
        row = dict(zip(names, [1, "a", "b", "c"], strict=True))
        world.load(odd, [row])
        world.publish()
        replica.apply(world.lake, [odd], "r")
        world.change(odd, [row | {'se"lect': 2}, row | {"order by": None}])
        world.publish()
        assert not replica.apply(world.lake, [odd], "r")[odd.name].reloaded
        assert sorted(self.rows(replica, odd)) == [(1, "a", "b", None), (2, "a", "b", "c")]
        self.assert_equal(world, replica, [odd])

    def test_a_thousand_columns(self, world: World, replica: Replica) -> None:
        names = {"id": "bigint"} | {f"c{i}": "text" for i in range(999)}
        wide = table("wide", names)
        row = dict.fromkeys(names, "x")
        world.load(wide, [row | {"id": 1}])
        world.publish()
        replica.apply(world.lake, [wide], "r")
        world.change(wide, [row | {"id": 1, "c998": "y"}])
        world.publish()
        replica.apply(world.lake, [wide], "r")
        assert self.rows(replica, wide)[0][-1] == "y"
        self.assert_equal(world, replica, [wide])

    # Changes of shape, and lakes that have moved on

    @pytest.mark.parametrize(
        "columns",
        [
            (column("id", "bigint"), column("customer"), column("new", "boolean")),
            (column("id", "bigint"),),
            (column("id", "bigint"), column("customer", "jsonb")),
        ],
        ids=["added", "dropped", "type"],
    )
    def test_a_changed_shape_is_followed(
        self, world: World, replica: Replica, columns: tuple[Column, ...]
    ) -> None:
        before = table("orders", {"id": "bigint", "customer": "text"})
        after = replace(before, columns=columns)
        row = {"id": 1, "customer": '{"a": 1}', "new": True}
        world.load(before, [row])
        world.load(LINES, [line(1)])
        world.publish()
        replica.apply(world.lake, [before, LINES], "r")
        # Declared so already, but not in the lake yet: the old rows stay, the others go on.
        world.change(LINES, [line(2)])
        world.publish()
        applied = replica.apply(world.lake, [after, LINES], "r")
        assert applied.keys() == {LINES.name}
        assert self.rows(replica, before) == [(1, '{"a": 1}')]
        world.load(after, [row])
        world.publish()
        assert replica.apply(world.lake, [after, LINES], "r")[after.name].reloaded
        assert len(self.rows(replica, after)[0]) == len(columns)
        self.assert_equal(world, replica, [after, LINES])

    def test_more_changes_than_are_looked_through_at_a_time(
        self, world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(current, "SLICE", 3)
        world.load(ORDERS, [order(number) for number in range(10)])
        world.publish()
        replica.apply(world.lake, [ORDERS], "r")
        world.change(ORDERS, [order(number, "first") for number in range(12)])
        world.change(ORDERS, [order(number, "second") for number in range(8)], [order(9)])
        world.publish()
        [applied] = replica.apply(world.lake, [ORDERS], "r").values()
        assert (applied.rows, applied.reloaded) == (11, False)
        self.assert_equal(world, replica, [ORDERS])

    @pytest.mark.parametrize("slices", [0, 1])
    def test_change_files_that_are_gone_are_made_up_for(
        self, world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch, slices: int
    ) -> None:
        world.load(ORDERS, [order(1)])
        world.publish()
        replica.apply(world.lake, [ORDERS], "r")
        world.change(ORDERS, [order(number) for number in range(2, 20)])
        world.publish()
        lake_table = world.lake.table(ORDERS.name)
        changes = [file for file in lake_table.files() if file.layer == "changes"]
        assert lake_table.fold(ORDERS) is not None

        def vanishing(*_: object) -> Iterator[str]:
            for number in range(2):
                if number == slices:
                    lake_table.discard(changes)
                yield f"id % 2 = {number}"

        monkeypatch.setattr(current, "slices", vanishing)
        [applied] = replica.apply(world.lake, [ORDERS], "r").values()
        assert applied.rows == 19
        self.assert_equal(world, replica, [ORDERS])

    def test_a_journal_that_has_been_cut_is_made_up_for(
        self, world: World, replica: Replica
    ) -> None:
        world.load(ORDERS, [order(1)])
        world.publish()
        replica.apply(world.lake, [ORDERS], "r")
        for turn in range(3):
            world.change(ORDERS, [order(2 + turn)])
            world.publish()
        keep = Keep(timedelta(0), 1)
        journal = Journal(world.store, journal_location("shop"), world.lake.session, keep)
        assert journal.compact() is not None
        assert replica.apply(world.lake, [ORDERS], "r")[ORDERS.name].reloaded
        assert replica.sync_number() == 4
        self.assert_equal(world, replica, [ORDERS])

    def test_a_replica_ahead_of_its_lake_is_refused(
        self, world: World, replica: Replica, bucket: Bucket
    ) -> None:
        for turn in range(2):
            world.load(ORDERS, [order(turn)])
            world.publish()
        replica.apply(world.lake, [ORDERS], "r")
        for key in bucket_keys(world):
            world.store.delete([key])
        for known in ("ends at 1", "has another one", "has another one"):
            world.load(ORDERS, [order(1)])
            world.publish()
            with pytest.raises(LakeDamaged, match=f"stands at sync 2, .* journal {known}"):
                replica.apply(world.lake, [ORDERS], "r")

    # Whose replica it is

    def test_a_replica_of_another_replication_is_refused(
        self, world: World, replica: Replica
    ) -> None:
        world.load(ORDERS, [order(1)])
        world.publish()
        replica.apply(world.lake, [ORDERS], "r")
        other = self.other(replica)
        with pytest.raises(ForeignReplica, match="belongs to replication"):
            other.apply(world.lake, [ORDERS], "r")
        with pytest.raises(ForeignReplica, match="belongs to replication"):
            other.sync_number()
        self.assert_equal(world, replica, [ORDERS])

    # Proof

    @pytest.mark.parametrize(
        "damage",
        [
            "DELETE FROM {}orders WHERE id = 3",
            "INSERT INTO {}orders VALUES (99, 'x', 1.00, now())",
            "UPDATE {}orders SET customer = customer || ' ' WHERE id = 3",
            "UPDATE {}orders SET customer = NULL WHERE customer = ''",
            "UPDATE {}orders SET amount = amount + 0.01 WHERE id = 3",
            "UPDATE {}orders SET placed = placed + INTERVAL '1 hour' WHERE id = 3",
            SWAP,
        ],
    )
    def test_damage_is_found(self, world: World, replica: Replica, damage: str) -> None:
        names = {1: "", 3: "c", 4: "d"}
        world.load(ORDERS, [order(i, names.get(i, "e")) for i in range(1, 9)])
        world.publish()
        replica.apply(world.lake, [ORDERS], "r")
        self.assert_equal(world, replica, [ORDERS])
        self.alter(replica, damage)
        for buckets in (None, 16):
            assert differences(
                world.figures(ORDERS, buckets), figures(replica, ORDERS, buckets=buckets)
            )

    def test_rows_are_told_and_corrected_one_by_one(self, world: World, replica: Replica) -> None:
        world.load(ORDERS, [order(i) for i in range(1, 9)])
        number = world.publish()
        assert self.wrong(world, replica, number) is None, "it does not hold the table yet"
        replica.apply(world.lake, [ORDERS], "r")
        found = self.wrong(world, replica, number)
        assert found is not None
        assert found.digests == frozenset()
        for statement in (
            "DELETE FROM {}orders WHERE id = 3",
            "UPDATE {}orders SET customer = '' WHERE id = 4",
            "INSERT INTO {}orders VALUES (99, 'x', 1.00, now())",
        ):
            self.alter(replica, statement)
        found = self.wrong(world, replica, number)
        assert found is not None
        assert found.digests is not None
        assert len(found.digests) == 4, "row 4 as it is and as it should be"
        with pytest.raises(SyncInProgress, match="has moved on"):
            replica.correct(world.lake, replace(found, sync=number + 1), "r")
        assert len(self.rows(replica, ORDERS)) == 8
        assert replica.correct(world.lake, found, "r") == 2  # written; two were deleted
        self.assert_equal(world, replica, [ORDERS])
        self.alter(replica, "UPDATE {}orders SET customer = 'all'")
        assert replica.correct(world.lake, replace(found, selection=ALL, digests=None), "r") == 8
        self.assert_equal(world, replica, [ORDERS])
        assert replica.sync_number() == number
        # It goes on from there.
        world.change(ORDERS, [order(10)])
        world.publish()
        assert not replica.apply(world.lake, [ORDERS], "r")[ORDERS.name].reloaded
        self.assert_equal(world, replica, [ORDERS])

    def wrong(self, world: World, replica: Replica, number: int) -> Correction | None:
        """What a bisection finds to be put right in the orders."""
        place = world.lake.table(ORDERS.name)
        head = place.batches.head()
        assert head is not None
        with replica.view() as view, world.lake.session() as session:
            copy = view.relation(ORDERS)
            if copy is None:
                return None
            lake = duckdb_relation(session, ORDERS, f"({place.rows_sql(ORDERS)}) AS t")
            leaves = bisect(ORDERS, lake, copy, Buckets((0, 1), 2), Depth())
            digests = frozenset(leaves.missing | leaves.extra)
        return Correction(ORDERS, number, head.version, leaves.selection, digests)

    # Readers, rivals and crashes

    def test_readers_see_whole_syncs_only(self, world: World, replica: Replica) -> None:
        world.load(ORDERS, [order(1)])
        world.load(LINES, [line(1)])
        world.publish()
        replica.apply(world.lake, [ORDERS, LINES], "r")
        seen: list[set[int]] = []
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                seen.append(self.sizes(replica))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for turn in range(2, 6):
                (world.load if turn == 4 else world.change)(
                    ORDERS, [order(i) for i in range(1, turn + 1)]
                )
                world.change(LINES, [line(turn)])
                world.publish()
                replica.apply(world.lake, [ORDERS, LINES], "r")
        finally:
            stop.set()
            reader.join()
        assert all(len(sizes) == 1 for sizes in seen), seen
        assert len(set(map(frozenset, seen))) > 1, "the reader never met a new sync"

    def sizes(self, replica: Replica) -> set[int]:
        """Row counts of orders and lines in one reading."""
        raise NotImplementedError

    def test_two_applies_at_once(self, world: World, replica: Replica) -> None:
        world.load(ORDERS, [order(1)])
        world.publish()
        replica.apply(world.lake, [ORDERS], "r")
        world.change(ORDERS, [order(2)])
        number = world.publish()
        results: list[Any] = []

        def apply() -> None:
            results.append(replica.apply(world.reopened(), [ORDERS], "r")[ORDERS.name])

        threads = [threading.Thread(target=apply) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(result.changed for result in results) == [0, 1]
        assert {result.sync for result in results} == {number}
        self.assert_equal(world, replica, [ORDERS])

    # Where a sync can die, and whether readers see it by then.
    FAILPOINTS: ClassVar[Mapping[str, bool]]

    def test_nothing_is_seen_before_all_of_it(
        self, world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.load(ORDERS, [order(1)])
        world.load(LINES, [line(1)])
        world.publish()
        replica.apply(world.lake, [ORDERS, LINES], "r")
        world.change(ORDERS, [order(2)])
        world.load(LINES, [line(1), line(2)])
        number = world.publish()
        seen: dict[str, tuple[set[int], int]] = {}

        def look(point: str) -> None:
            seen[point] = (self.sizes(replica), replica.sync_number())

        monkeypatch.setattr(sys.modules[type(replica).__module__], "reach", look)
        replica.apply(world.lake, [ORDERS, LINES], "r")
        new, old = ({2}, number), ({1}, number - 1)
        assert seen == {point: new if there else old for point, there in self.FAILPOINTS.items()}

    def test_killed_anywhere_and_applied_again(self, world: World, replica: Replica) -> None:
        tables = [ORDERS, LINES, NOTES]
        for moment, point in enumerate(["replica.merged", *self.FAILPOINTS]):
            if moment == 0:
                world.load(ORDERS, [order(1), order(2)])
                world.load(LINES, [line(1)])
                world.load(NOTES, [{"n": 1, "text": "a"}])
            else:
                world.change(ORDERS, [order(10 + moment)], [{"id": 9 + moment}])
                world.change(LINES, [line(1, 10 + moment)])
                world.load(NOTES, [{"n": moment, "text": "a"}] * moment)
            number = world.publish()
            before = replica.sync_number()
            assert apply_in_child(world, replica, tables, point).returncode == 137
            assert replica.sync_number() == (number if self.FAILPOINTS[point] else before)
            if moment % 2:  # the next kill meets what this one left
                continue
            replica.apply(world.lake, tables, "r")
            assert replica.sync_number() == number
            self.assert_equal(world, replica, tables)
        replica.apply(world.lake, tables, "r")
        self.assert_equal(world, replica, tables)

    def assert_equal(self, world: World, replica: Replica, tables: Sequence[Table]) -> None:
        for one in tables:
            for buckets in (None, 7):
                lake, copy = world.figures(one, buckets), figures(replica, one, buckets=buckets)
                assert not differences(lake, copy), one.name
            assert figures(replica, one).total.rows == len(self.rows(replica, one))


def figures(replica: Replica, table: Table, *, buckets: int | None = None) -> Figures:
    with replica.view() as view:
        return view.figures(table, buckets=buckets)


def apply_in_child(
    world: World,
    replica: Replica,
    tables: Sequence[Table],
    failpoint: str = "",
    file_size: int | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Apply in a process of its own that dies at the failpoint, or may not write larger files."""
    parts = pickle.dumps((replica, world.reopened().store, "shop", list(tables), file_size))
    environment = os.environ | ({"REPL_PIPELINES_FAILPOINT": failpoint} if failpoint else {})
    command = [sys.executable, "-m", "tests.replicas.apply_once"]
    return subprocess.run(
        command, input=parts, env=environment, capture_output=True, check=False, timeout=120
    )


def bucket_keys(world: World) -> list[str]:
    client = world.store.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=world.store.bucket)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]
