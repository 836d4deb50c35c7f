"""A table held against its source in the snapshot of a sync, as much of it as is due.

What was proven last, and when, follows from the records of the proofs (`sync.evidence`). A proof
begins with the rows that were left longest, and goes on until its share is done and nothing else
would be late before the next one. So rows that a proof did not come to, because its time was over
or it was killed, are those with which the next one begins.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from repl_pipelines.errors import ProofCutShort, StatementTimeout
from repl_pipelines.lake.journal import Published
from repl_pipelines.model.coverage import Cover, Coverage, roundest
from repl_pipelines.model.entry import COARSE
from repl_pipelines.model.figures import Figures, differences
from repl_pipelines.model.selection import Buckets, Span
from repl_pipelines.model.table import Table
from repl_pipelines.proof.relation import ALL
from repl_pipelines.proof.stride import Stride
from repl_pipelines.replicas.contract import View
from repl_pipelines.sources.contract import Measured
from repl_pipelines.sync.hold import LAKE, Scope
from repl_pipelines.sync.locate import located
from repl_pipelines.sync.meter import Meter, TimeOver, TooLong
from repl_pipelines.sync.records import History, record
from repl_pipelines.sync.report import Proof

FIRST_ROWS = 20_000  # of a table whose speed is not known yet
# A larger share of a scattered table is read by scanning its pages: through the index each row
# would cost a page, and a page holds some dozens of rows.
SCAN = 1 / 32
RECORD = 300.0  # seconds after which what has been compared is recorded: a kill costs no more


@dataclass(frozen=True)
class Due:
    """How much of a table is to be compared now.

    share:  of its rows, at least
    before: and all that was last proven before that time (seconds since 1970)
    """

    share: float
    before: float

    @classmethod
    def of(cls, history: History, now: datetime, period: timedelta | None) -> "Due":
        """Everything, where there is no period; else what keeps it, whatever was missed.

        The next proof is taken to come after as long a time as this one did.
        """
        if period is None or history.last is None:
            return cls(1.0, math.inf)
        gap = max(now - history.last, timedelta())
        return cls(min(1.0, gap / period), (now + gap - period).timestamp())

    def late(self, coverage: Coverage) -> bool:
        """Whether some row would be."""
        return coverage.oldest.time < self.before


@dataclass(frozen=True)
class Held:
    """What a proof compares.

    views:      the copies by name, as the sync of `snapshot` left them
    references: what single ones are held against instead of the source: the lake, as it was when
                they were looked at
    """

    scope: Scope
    snapshot: Measured
    views: Mapping[str, View]
    references: Mapping[str, View] = field(default_factory=dict[str, View])


class Share:
    """One table in one proof."""

    def __init__(
        self, held: Held, table: Table, published: Published, period: timedelta | None
    ) -> None:
        axis = held.snapshot.axis(table)
        history = History.read(held.scope.lake, table.name, axis, held.views)
        self.table = table
        self.coverage = history.coverage
        self._axis = axis
        self._held = held
        self._published = published
        self._at = published.entry.position.at
        self._due = Due.of(history, self._at, period)
        self._covered: Buckets | None = None
        self._pending: Buckets | None = None  # measured in the source, and not yet compared
        self._source = Figures({})
        self._copies = {name: Figures({}) for name in held.views}
        self._references = {name: Figures({}) for name in held.references}
        self._seconds = dict.fromkeys(held.views, 0.0)
        self._started = time.monotonic()
        self._recorded = self._started

    def proofs(self, meter: Meter) -> list[Proof]:
        """One proof for each copy; none where nothing is due. Raises ProofCutShort."""
        self._meter = meter.of(self.table, math.ceil(self._due.share * self.table.rows))
        try:
            if self.coverage.axis.column:
                self._by_ranges(scan=self._axis.scattered and self._due.share > SCAN)
            else:
                self._by_buckets()
        except TimeOver:
            if self._covered is None:
                raise ProofCutShort(
                    f"{self.table.name}: the proof's time was over before any of it was compared.",
                    "The next one begins with it. Give proofs more time (`max_proof` of the"
                    " source), or spread them over days (`validation_days`).",
                ) from None
        if self._covered is None:
            return []
        proofs = self._compared()
        return [
            proof
            for name, view in self._held.views.items()
            for proof in located(self._held.scope, view, [p for p in proofs if p.copy == name])
        ]

    def _by_ranges(self, *, scan: bool) -> None:
        """scan: page by page, of the whole table if there is time for it."""
        axis, known = self.coverage.axis, self.table.rows
        stride = Stride(known if scan else FIRST_ROWS)
        while self._wanted():
            whole = scan and stride.size >= known
            lower = None if whole else self.coverage.oldest.lower
            try:
                with self._meter.measuring(bounded=scan):
                    upper = None if whole else self._upper(lower, stride.size)
                    bounds = (None if b is None else axis.text(b) for b in (lower, upper))
                    span = Buckets((0,), 1, within=(Span(axis.column, *bounds),))
                    self._measure(ALL if whole else span, scan=scan)
            except (StatementTimeout, TooLong):
                if not stride.too_long():
                    raise
                if scan and stride.size < SCAN * known:
                    scan, stride = False, Stride(FIRST_ROWS)
                continue
            if not scan:
                stride.took(self._meter.last)
            self._done(self.coverage.covered(lower, upper, self._at))

    def _done(self, coverage: Coverage) -> None:
        """The rows just measured are covered: from here on a kill costs no more than RECORD."""
        self.coverage = coverage
        if time.monotonic() - self._recorded > RECORD:
            record(self._held.scope.lake, self._held.scope.run, self._compared(), ())
            self._recorded = time.monotonic()

    def _upper(self, lower: int | None, rows: int) -> int | None:
        """Where a range of about so many rows ends, at a number that need not be a row's.

        No row is measured twice: the sums would have it twice.
        """
        self._meter.before_statement()
        end = self.coverage.until(lower, self._at)
        upper = self._held.snapshot.bound(self.table, self.coverage.axis, lower, rows)
        if upper is None or (end is not None and end <= upper):
            return end
        gap = abs(upper) if lower is None else upper - lower
        return roundest(upper - 1 - gap // 8, upper)

    def _wanted(self) -> bool:
        if self.coverage.oldest.time >= self._at.timestamp():
            return False  # all of them were measured
        enough = self._source.total.rows >= self._due.share * self.table.rows
        return not enough or self._due.late(self.coverage)

    def _by_buckets(self) -> None:
        """All that are due in one scan, as each visits every page; in several if it must be."""
        left = self._numbers()
        many = len(left)
        while left:
            numbers, coverage = left[:many], self.coverage
            for number in numbers:
                coverage = self._with(coverage, number)
            try:
                with self._meter.measuring(bounded=many > 1):
                    some = Buckets(tuple(sorted(numbers)), COARSE)
                    self._measure(ALL if many == COARSE else some, scan=True)
            except TooLong:
                many //= 2
                continue
            left = left[many:]
            self._done(coverage)

    def _numbers(self) -> list[int]:
        """Of the buckets that are due, those that were left longest first."""
        coverage, numbers = self.coverage, list[int]()
        least = int(self._due.share * COARSE)
        while len(numbers) < COARSE and (len(numbers) < least or self._due.late(coverage)):
            numbers.append(coverage.oldest.lower or 0)
            coverage = self._with(coverage, numbers[-1])
        return numbers

    def _with(self, coverage: Coverage, number: int) -> Coverage:
        """With this bucket proven now."""
        upper = number + 1 if number + 1 < COARSE else None
        return coverage.covered(number or None, upper, self._at)

    def _measure(self, rows: Buckets, *, scan: bool) -> None:
        pace = self._meter.before_statement
        figures = self._held.snapshot.figures(
            self.table, rows, buckets=COARSE, pace=pace, scan=scan
        )
        self._meter.counted(figures.total.rows)
        self._source += figures
        self._pending = rows.joined(self._pending)
        self._covered = rows.joined(self._covered)

    def _compared(self) -> list[Proof]:
        """A proof of each copy over all that was measured so far."""
        rows, self._pending = self._pending, None
        for name, view in self._held.views.items() if rows else ():
            started = time.monotonic()
            if rows:
                self._copies[name] += self._figures(view, rows)
            if rows and name in self._references:
                self._references[name] += self._figures(self._held.references[name], rows)
            self._seconds[name] += time.monotonic() - started
        return [self._proof(name) for name in self._held.views]

    def _figures(self, view: View, rows: Buckets) -> Figures:
        relation = view.relation(self.table)
        return relation.figures(rows, COARSE) if relation else Figures({})

    def _proof(self, name: str) -> Proof:
        source, copy = self._references.get(name, self._source), self._copies[name]
        return Proof(
            table=self.table.name,
            partition=None,
            copy=name,
            sync=self._published.sync,
            position=self._published.entry.position,
            source=source.total,
            figure=copy.total,
            differences=differences(source, copy),
            seconds=self._seconds[name],
            reference=LAKE if name in self._references else "source",
            cover=self._cover(),
            cost=self._meter.cost,
        )

    def _cover(self) -> Cover | None:
        """None: all of the table."""
        rows = self._covered
        if rows is None or all(part.at == self._at for part in self.coverage.parts):
            return None
        if rows.within:
            known = max(self.table.rows, self._source.total.rows, 1)
            return Cover(rows, self._source.total.rows / known, self.coverage)
        return Cover(rows, len(rows.numbers) / rows.of, self.coverage)
