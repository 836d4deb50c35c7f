"""From buckets that differ down to the rows and columns that do.

Each level cuts the differing buckets into many more, whose figures both sides compute where their
rows are. Only the hashes of the last level's few rows are fetched, and of the rows that differ the
values. So a table of any size costs a few scans of each side, and memory is bounded by `Depth`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from repl_pipelines.model.difference import Difference, Found, Kind
from repl_pipelines.model.figures import Figures, GroupDifference, differences
from repl_pipelines.model.selection import Buckets
from repl_pipelines.model.table import Table
from repl_pipelines.proof.relation import Relation, Row
from repl_pipelines.proof.shown import shown, shown_row

_FINEST = 2**30  # a bucket is taken from 32 bits
_CELLS = 50_000  # values fetched of one side: fewer rows are listed of wide tables


@dataclass(frozen=True)
class Depth:
    """How far a bisection goes.

    fanout: buckets that one is cut into; buckets: followed at a level; rows: compared one by one;
    listed: differences that are told one by one
    """

    fanout: int = 64
    buckets: int = 1024
    rows: int = 20_000
    listed: int = 1000


class Side(Protocol):
    """Rows of one table at one position."""

    def figures(self, selection: Buckets, buckets: int) -> Figures:
        """Figures of the selected rows, by so many buckets."""
        ...

    def leaves(self, selection: Buckets) -> AbstractContextManager[Relation]:
        """Where the rows of these buckets can be selected from."""
        ...


@dataclass(frozen=True)
class Mismatch:
    """Rows of one identity: digests that the copy lacks, and those that it has too many."""

    identity: str
    missing: Counter[str]
    extra: Counter[str]


@dataclass
class Leaves:
    """The buckets a bisection ended at, and what it found in them.

    rest: buckets that differ, but were too many to follow
    """

    selection: Buckets
    rest: int = 0
    mismatches: Sequence[Mismatch] = ()
    listed: Sequence[Difference] = ()

    @property
    def missing(self) -> Counter[str]:
        """Digests of rows that the copy lacks, and how many times."""
        return _together(one.missing for one in self.mismatches)

    @property
    def extra(self) -> Counter[str]:
        """Digests of rows that the copy has too many, and how many times."""
        return _together(one.extra for one in self.mismatches)


def bisect(table: Table, reference: Side, copy: Side, roots: Buckets, depth: Depth) -> Leaves:
    """The rows below `roots` in which the copy differs from the reference."""
    leaves = _descend(reference, copy, roots, depth)
    selection = leaves.selection
    if selection.numbers:
        with reference.leaves(selection) as wanted, copy.leaves(selection) as had:
            leaves.mismatches = _compare(wanted, had, selection)
            chosen = leaves.mismatches[: min(depth.listed, _CELLS // max(len(table.columns), 1))]
            left = _values(wanted, selection, (d for one in chosen for d in one.missing))
            right = _values(had, selection, (d for one in chosen for d in one.extra))
        listed = [d for one in chosen for d in _differences(table, one, left, right)]
        leaves.listed = listed[: depth.listed]
    return leaves


def found(table: Table, leaves: Leaves) -> Found:
    """The outcome of a bisection as it is reported."""
    note = "Too many groups differ to follow all of them." if leaves.rest else ""
    return Found(_counts(table, leaves.mismatches), tuple(leaves.listed), leaves.rest, note)


def _counts(table: Table, mismatches: Iterable[Mismatch]) -> dict[Kind, int]:
    """Rows by kind."""
    found: Counter[Kind] = Counter()
    for one in mismatches:
        pairs = _pairs(table, one)
        found[Kind.UNEQUAL] += pairs
        found[Kind.MISSING] += one.missing.total() - pairs
        found[Kind.EXTRA] += one.extra.total() - pairs
    return {kind: found[kind] for kind in Kind if found[kind]}


def _descend(reference: Side, copy: Side, roots: Buckets, depth: Depth) -> Leaves:
    """Cut the differing buckets until few enough rows are left, or no cut helps."""
    selection, rest, of = roots, 0, roots.of
    before = (0, 0)
    while True:
        source, own = reference.figures(selection, of), copy.figures(selection, of)
        found = differences(source, own)
        rows = sum(map(_rows, found))
        helped = (rows, len(found)) != before
        if rows <= depth.rows or of * depth.fanout > _FINEST or not helped:
            break
        rest += max(0, len(found) - depth.buckets)
        numbers = tuple(int(one.group) for one in found[: depth.buckets])
        before = (rows, len(numbers))
        selection, of = replace(roots, numbers=numbers, of=of), of * depth.fanout
    kept = _few_enough(found, depth)
    numbers = tuple(int(one.group) for one in kept)
    return Leaves(replace(roots, numbers=numbers, of=of), rest + len(found) - len(kept))


def _few_enough(found: Sequence[GroupDifference], depth: Depth) -> list[GroupDifference]:
    """As many buckets as hold no more than `depth.rows` together, the smallest first."""
    kept: list[GroupDifference] = []
    rows = 0
    for one in sorted(found, key=_rows):
        rows += _rows(one)
        if kept and rows > depth.rows:
            break
        kept.append(one)
    return kept


def _rows(one: GroupDifference) -> int:
    return max(one.source.rows, one.copy.rows)


def _compare(wanted: Relation, had: Relation, selection: Buckets) -> list[Mismatch]:
    left, right = _digests(wanted, selection), _digests(had, selection)
    found: list[Mismatch] = []
    for identity in sorted(left.keys() | right.keys()):
        mine, theirs = left.get(identity, Counter[str]()), right.get(identity, Counter[str]())
        if mine != theirs:
            found.append(Mismatch(identity, mine - theirs, theirs - mine))
    return found


def _digests(relation: Relation, selection: Buckets) -> Mapping[str, Counter[str]]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for identity, digest in relation.hashes(selection):
        found[identity][digest] += 1
    return found


def _together(counters: Iterable[Counter[str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for counter in counters:
        found.update(counter)
    return found


def _values(relation: Relation, selection: Buckets, digests: Iterable[str]) -> Mapping[str, Row]:
    return {row.digest: row for row in relation.rows(selection, set(digests))}


def _pairs(table: Table, one: Mismatch) -> int:
    """Rows of both sides that are one row with two values: only a key can tell."""
    return min(one.missing.total(), one.extra.total()) if table.key else 0


def _differences(
    table: Table, one: Mismatch, left: Mapping[str, Row], right: Mapping[str, Row]
) -> list[Difference]:
    found: list[Difference] = []
    missing, extra = one.missing.copy(), one.extra.copy()
    for _ in range(_pairs(table, one)):
        wanted, had = min(missing.elements()), min(extra.elements())
        found += _columns(table, left[wanted], right[had])
        missing, extra = missing - Counter([wanted]), extra - Counter([had])
    for digest, rows in missing.items():
        row = left[digest]
        key, text = shown_row(table, row.forms, table.key), shown_row(table, row.forms)
        found.append(Difference(Kind.MISSING, key, source=text, batch=row.batch, rows=rows))
    for digest, rows in extra.items():
        row = right[digest]
        key, text = shown_row(table, row.forms, table.key), shown_row(table, row.forms)
        found.append(Difference(Kind.EXTRA, key, copy=text, batch=row.batch, rows=rows))
    return found


def _columns(table: Table, wanted: Row, had: Row) -> list[Difference]:
    """One difference for each column that is unequal in the two rows of one key."""
    key = shown_row(table, wanted.forms, table.key)
    batch = wanted.batch if had.batch is None else had.batch
    return [
        Difference(
            Kind.UNEQUAL,
            key,
            column.name,
            shown(column, wanted.forms[i]),
            shown(column, had.forms[i]),
            batch,
        )
        for i, column in enumerate(table.columns)
        if wanted.marks[i] != had.marks[i]
    ]
