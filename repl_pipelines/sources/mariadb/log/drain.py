"""The exact cut: of all that the log tells, what the snapshot shows and the copy has not.

A snapshot of MariaDB has an exact position. It is taken while commits are blocked for an instant,
so that every transaction has ended both in the log and in the engine, or in neither; the server
itself says then which was the last (`@@gtid_binlog_pos`). So, unlike in PostgreSQL, position and
visibility are one: the transactions up to the position are what the snapshot shows, no more and no
fewer. A batch is what lies between two positions. Of MySQL's snapshots the same is known by other
means. (docs/exactness.md, "Mode `log` on MariaDB", "Mode `log` on MySQL".)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from repl_pipelines.model.table import TableName
from repl_pipelines.sources.mariadb.dialect import Dialect
from repl_pipelines.sources.mariadb.log.anchor import Place, order
from repl_pipelines.sources.mariadb.log.events import (
    IGNORED,
    ROWS,
    Begin,
    Event,
    Kind,
    rotation,
    statement,
    xa_name,
    xid,
)
from repl_pipelines.sources.mariadb.log.gtid import Gtids
from repl_pipelines.sources.mariadb.log.rows import RowEvents, Transaction
from repl_pipelines.sources.mariadb.log.shelf import Prepared, Shelf
from repl_pipelines.sources.mariadb.log.spool import Spool, Stamp
from repl_pipelines.sources.mariadb.log.statements import Xa, concerned, plain, xa

FIRST = 4  # offset of a file's first event
_UNDERSTOOD = frozenset(Kind)
_ENDS = {Kind.XID, Kind.XA_PREPARE}
_ARTIFICIAL = 0x20  # of an event's flags: made for this reading


class Broken(Exception):
    """The log does not lead from the copies to the snapshot; the text says why."""


@dataclass
class Drain:
    """One reading of the log, from the first of `places` up to `now`.

    file:   of the log, in which the snapshot was taken
    places: where the log goes on behind the copies, which must be met on the way
    spools: by table; shelf: distributed transactions that are prepared
    state:  all transactions up to where the reading is
    """

    dialect: Dialect
    now: Gtids
    file: str
    places: Mapping[TableName, Place]
    spools: Mapping[TableName, Spool]
    rows: RowEvents
    shelf: Shelf
    state: Gtids = field(init=False)
    _file: str = ""
    _created: int = 0
    _last: Event | None = None
    _closed: bool = False  # the file has come to a proper end
    _unmet: set[TableName] = field(default_factory=set[TableName])
    _begin: Begin | None = None
    _began: Place | None = None
    _transaction: Transaction = field(default_factory=Transaction)

    def __post_init__(self) -> None:
        self.state = self.first.before
        self._unmet = set(self.places)

    @property
    def first(self) -> Place:
        """Where to begin."""
        return min(self.places.values(), key=lambda place: place.order)

    def run(self, stream: Iterable[Event]) -> Place:
        """Read up to the snapshot; where the next reading begins. Raises Broken."""
        for event in stream:
            if event.flags & _ARTIFICIAL and event.kind == Kind.ROTATE:
                self._enter(rotation(event.body)[0])
            elif event.kind == Kind.FORMAT:
                self._open(event)
            else:
                self._pass(event)
                for told in self.dialect.told(event):
                    self._take(told)
            if self._arrived:
                return self.shelf.oldest or self._here()
        if self._unmet:
            raise Broken("the log is not the one that it was copied beside")
        raise Broken(f"the log ends at {self.state or 'nothing'} and not at {self.now}")

    @property
    def _arrived(self) -> bool:
        """In the snapshot's file, too: an older one may be purged before there is more to read."""
        at_rest = self._begin is None and bool(self._created)
        return at_rest and self.state == self.now and self._file == self.file and not self._unmet

    def _here(self) -> Place:
        """The last event that was read, or the beginning of the file."""
        if self._last:
            seal = self._last.checksum
            return Place(self._file, self._last.start, self._created, seal, self.state)
        same = self._file == self.first.file
        offset = self.first.offset if same else FIRST
        return Place(self._file, offset, self._created, None, self.state)

    def _enter(self, file: str) -> None:
        if self._file and file != self._file and not self._closed:
            raise Broken(f"the server had a crash while it wrote {self._file}")
        self._file, self._closed, self._last, self._created = file, False, None, 0

    def _open(self, event: Event) -> None:
        """A file begins. Numbers of tables grow: those of files before are never met again."""
        self._created = event.at
        self.rows.maps.clear()
        for name, place in self._here_of():
            if place.created != event.at:
                raise Broken("the server, or its log, is another one")
            if place.seal is None:
                self._unmet.discard(name)

    def _pass(self, event: Event) -> None:
        """An event that was read before must be the same one still.

        Since MariaDB 11.4 those in the middle of a transaction do not say where they end.
        """
        if self._last and not event.end:
            event = replace(event, end=self._last.end + event.size)
        if self._last and event.end < self._last.end:
            raise Broken("a file of the log is larger than 4 GB")
        self._last = event
        for name, place in self._here_of() if self._unmet else ():
            if place.offset == event.start and name in self._unmet:
                if place.seal != event.checksum:
                    raise Broken("the log is not the one that it was copied beside")
                self._unmet.discard(name)

    def _here_of(self) -> list[tuple[TableName, Place]]:
        return [(name, place) for name, place in self.places.items() if place.file == self._file]

    def _take(self, event: Event) -> None:
        kind = event.kind
        if kind == Kind.GTID:
            self._start(event)
        elif kind in {Kind.ROTATE, Kind.STOP}:
            self._closed = True
        elif kind in IGNORED:
            return
        elif kind not in _UNDERSTOOD:
            raise Broken(f"the log has an event of type {kind}, which is not understood")
        elif self._begin is None:
            if self._began:
                raise Broken("the log has an event outside of any transaction")
            return  # the copies have the end of this transaction
        elif self._begin.prepared != (kind == Kind.XA_PREPARE) and kind in _ENDS:
            raise Broken("a distributed transaction does not end as it began")
        elif kind == Kind.XID:
            self._finish()
        elif kind == Kind.XA_PREPARE:
            self._prepared(event.body)
            self._finish()
        elif self._begin.prepared:
            self.shelf.add(kind, event.body)
        elif kind in ROWS or kind == Kind.TABLE_MAP:
            self.rows.take(Kind(kind), event.body, self._transaction)
        else:
            self._statement(plain(statement(kind, event.body)))

    def _start(self, event: Event) -> None:
        begin = self.dialect.begin(event)
        if self.state.holds(begin.gtid):
            raise Broken(f"transaction {begin.gtid} comes after {self.state}")
        if not self.now.holds(begin.gtid):
            raise Broken(f"transaction {begin.gtid} is not in the snapshot, at {self.now}")
        self._begin = begin
        self._began = Place(self._file, event.start, self._created, event.checksum, self.state)
        lacking = frozenset(n for n, s in self.spools.items() if not s.past.holds(begin.gtid))
        stamp = Stamp(order(self._file, event.start) + 1, event.at * 1_000_000)
        self._transaction = Transaction(stamp, lacking)
        if begin.prepared:
            self.shelf.begin()

    def _finish(self) -> None:
        assert self._begin, "it has begun"
        self.state = self.state.with_next(self._begin.gtid)
        self._begin = None

    def _prepared(self, body: bytes) -> None:
        """Put aside until it is committed, or, in one phase, taken at once."""
        assert self._began, "it has begun"
        name = xa_name(body)
        self.shelf.keep(name, self._began)
        if body[0]:
            prepared = self.shelf.take(name)
            assert prepared, "it was kept"
            self._take_prepared(prepared)
            prepared.file.unlink()

    def _statement(self, text: str) -> None:
        assert self._begin, "it has begun"
        step, words = xa(text), text.upper()
        if step and step.verb == "START":
            self._begin = replace(self._begin, prepared=True)
            self.shelf.begin()
        elif step and step.verb in {"COMMIT", "ROLLBACK"}:
            self._end_prepared(step)
            self._finish()
        elif words == "BEGIN" or words.endswith(" START TRANSACTION"):
            self._begin = replace(self._begin, standalone=False)  # CREATE TABLE ... SELECT has rows
            self._concern(text)
        else:
            self._concern(text)
            if self._begin.standalone or words in {"COMMIT", "ROLLBACK"}:
                self._finish()

    def _concern(self, text: str) -> None:
        why, tables = concerned(text, self._transaction.lacking)
        for name in tables:
            self.spools[name].gap = why

    def _end_prepared(self, step: Xa) -> None:
        """A distributed transaction is committed, here and not where its rows are."""
        prepared = self.shelf.take(xid(step.form, step.first, step.second))
        if prepared is None:
            if step.verb == "COMMIT":
                for name in self._transaction.lacking:
                    self.spools[name].gap = "a distributed transaction began before it was copied"
            return
        if step.verb == "COMMIT":
            self._take_prepared(prepared)
        prepared.file.unlink()

    def _take_prepared(self, prepared: Prepared) -> None:
        maps, self.rows.maps = self.rows.maps, {}
        for kind, body in prepared.events():
            if kind in {Kind.QUERY, Kind.QUERY_COMPRESSED}:
                self._concern(plain(statement(kind, body)))
            else:
                self.rows.take(Kind(kind), body, self._transaction)
        self.rows.maps = maps
