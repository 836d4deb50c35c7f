"""A PostgreSQL database as the sync sees it: transactions, their order in the log, visibility.

A transaction's commit record enters the log before other sessions see its rows, and the two orders
may differ between transactions (CommitTransaction in PostgreSQL's xact.c). Whoever writes a row
that another transaction has written waits until that one has ended for all to see.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

# Phases of a transaction. LOGGED: its commit record is in the log, its rows are not yet visible.
WAITING, OPEN, PREPARED, LOGGED, VISIBLE, ROLLED_BACK = (
    "waiting",
    "open",
    "prepared",
    "logged",
    "visible",
    "rolled back",
)
IN_PROGRESS = frozenset({OPEN, PREPARED, LOGGED})

Rows = tuple[tuple[str, int], ...]  # (key, the transaction that wrote the row), sorted


class Write(NamedTuple):
    """What a transaction does to one row; key '': a new row of a table without a key."""

    table: str
    key: str
    deletes: bool = False


class Transaction(NamedTuple):
    """start: the clock when it began; streamed: those of its writes that the log's reader gets."""

    script: tuple[Write, ...]
    phase: str = WAITING
    start: int = 0
    written: bool = False
    streamed: tuple[Write, ...] = ()


class Source(NamedTuple):
    """log: transactions by commit record; a position in it counts the records before it.

    published: tables whose writes are streamed
    prepares: transactions that may be prepared for a two-phase commit
    timed: a transaction may begin long before it writes, and its start is recorded
    """

    transactions: tuple[Transaction, ...]
    published: frozenset[str] = frozenset()
    log: tuple[int, ...] = ()
    clock: int = 1
    prepares: frozenset[int] = frozenset()
    timed: bool = False


@lru_cache(100_000)  # most worlds differ in their syncs alone
def steps(source: Source) -> tuple[tuple[str, Source], ...]:
    """What any of the transactions may do next."""
    return tuple(
        (f"T{number} {step}", after)
        for number, one in enumerate(source.transactions)
        for step, after in _steps(source, number, one)
    )


def _steps(source: Source, number: int, one: Transaction) -> Iterator[tuple[str, Source]]:
    if one.phase == WAITING and source.timed:
        begun = one._replace(phase=OPEN, start=source.clock)
        yield "begins", _with(source, number, begun)._replace(clock=source.clock + 1)
    elif one.phase in (WAITING, OPEN) and not one.written:
        if not _blocked(source, one):
            yield "writes", _with(source, number, _written(source, one))
    elif one.phase == OPEN:
        yield "logs its commit", _logged(source, number, one, LOGGED)
        yield "rolls back", _with(source, number, one._replace(phase=ROLLED_BACK))
        if number in source.prepares:
            yield "prepares", _with(source, number, one._replace(phase=PREPARED))
    elif one.phase == PREPARED:
        yield "commits what it prepared", _logged(source, number, one, VISIBLE)
    elif one.phase == LOGGED:
        yield "becomes visible", _with(source, number, one._replace(phase=VISIBLE))


def snapshot(source: Source) -> frozenset[int]:
    """The transactions a snapshot taken now shows."""
    return frozenset(i for i, t in enumerate(source.transactions) if t.phase == VISIBLE)


def in_progress(source: Source) -> frozenset[int]:
    """The transactions that a snapshot taken now lists as running."""
    return frozenset(i for i, t in enumerate(source.transactions) if t.phase in IN_PROGRESS)


def rows(source: Source, shown: Collection[int], table: str) -> Rows:
    """A table's rows as a snapshot that shows these transactions has them."""
    scripts = tuple((n, source.transactions[n].script) for n in source.log if n in shown)
    return _rows(scripts, table)


@lru_cache(100_000)
def _rows(scripts: tuple[tuple[int, tuple[Write, ...]], ...], table: str) -> Rows:
    found: Rows = ()
    for number, script in scripts:
        found = written(found, number, script, table)
    return found


def written(before: Rows, number: int, writes: Collection[Write], table: str) -> Rows:
    """Rows after a transaction's writes: by key, or one more row where there is no key."""
    found = list(before)
    for write in writes:
        if write.table == table:
            found = [row for row in found if not write.key or row[0] != write.key]
            found += [] if write.deletes else [(write.key, number)]
    return tuple(sorted(found))


def _blocked(source: Source, one: Transaction) -> bool:
    """Whether another transaction holds a row that this one wants to write."""
    held = {
        (write.table, write.key)
        for other in source.transactions
        if other.written and other.phase in IN_PROGRESS
        for write in other.script
        if write.key
    }
    return any((write.table, write.key) in held for write in one.script)


def _written(source: Source, one: Transaction) -> Transaction:
    streamed = tuple(write for write in one.script if write.table in source.published)
    return one._replace(phase=OPEN, written=True, streamed=streamed)


def _logged(source: Source, number: int, one: Transaction, phase: str) -> Source:
    after = _with(source, number, one._replace(phase=phase))
    return after._replace(log=(*source.log, number))


def _with(source: Source, number: int, one: Transaction) -> Source:
    others = source.transactions
    return source._replace(transactions=(*others[:number], one, *others[number + 1 :]))
