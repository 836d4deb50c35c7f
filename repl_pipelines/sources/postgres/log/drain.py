"""The exact cut: of all that the stream delivers, what the snapshot shows and the copy has not.

Positions cannot tell: a transaction that committed before the snapshot may not be visible in it, as
its commit record is written first. So each transaction is held against two snapshots: this sync's,
and the one that the table's copy equals. (docs/exactness.md, "Mode log".)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from repl_pipelines.sources.postgres.log.pgoutput import (
    Begin,
    Relation,
    Truncate,
    message_content,
)
from repl_pipelines.sources.postgres.log.slot import PREFIX
from repl_pipelines.sources.postgres.log.spool import Rows, Spool
from repl_pipelines.sources.postgres.log.visibility import Visibility

CHUNK_BYTES = 16 * 2**20  # of messages held in memory, all tables together

_BEGIN, _RELATION, _TRUNCATE, _MESSAGE = b"BRTM"
_ROWS = frozenset(b"IUD")


@dataclass
class Drain:
    """One reading of the stream, up to `marker`.

    now:    this sync's snapshot
    past:   by relation (oid), the snapshot that the copy of its table equals
    spools: by relation (oid), where its rows go; other relations are passed over
    held:   position of the first commit that `now` does not show: the marker's, if no other
    passed: contents of the markers on the way, those of earlier syncs
    """

    now: Visibility
    past: Mapping[int, Visibility]
    spools: Mapping[int, Spool]
    marker: str
    held: int = 0
    passed: set[str] = field(default_factory=set[str])
    _rows: dict[bytes, Rows] = field(default_factory=dict[bytes, Rows])

    def run(self, messages: Iterable[bytes]) -> None:
        """Read until the marker."""
        begin = Begin(0, 0, 0)
        new: frozenset[Visibility] = frozenset()  # the copies that lack this transaction
        buffered = 0
        for message in messages:
            tag = message[0]
            if tag in _ROWS:
                rows = self._rows.get(message[1:5]) if new else None
                if rows is not None and rows.past in new:
                    rows.add(tag, message, begin)
                    buffered += len(message)
                    if buffered > CHUNK_BYTES:
                        buffered = self._flush_largest()
            elif tag == _BEGIN:
                begin = Begin.parse(message)
                new = self._lacking(begin)
            elif tag == _RELATION:
                self._describe(Relation.parse(message))
            elif tag == _TRUNCATE:
                self._truncate(Truncate.parse(message), new)
            elif tag == _MESSAGE and self._ends(*message_content(message)):
                break
        for rows in self._rows.values():
            rows.flush()

    def _lacking(self, begin: Begin) -> frozenset[Visibility]:
        if not self.now.shows(begin.xid):
            self.held = self.held or begin.commit
            return frozenset()
        return frozenset(past for past in self._pasts if not past.shows(begin.xid))

    @cached_property
    def _pasts(self) -> frozenset[Visibility]:
        return frozenset(self.past.values())

    def _describe(self, relation: Relation) -> None:
        spool = self.spools.get(relation.oid)
        if spool is None:
            return
        key = relation.oid.to_bytes(4, "big")
        if key in self._rows:
            self._rows[key].become(relation)
        else:
            self._rows[key] = Rows(spool, relation, self.past[relation.oid])

    def _truncate(self, truncate: Truncate, new: frozenset[Visibility]) -> None:
        for oid in truncate.oids:
            if oid in self.spools and self.past[oid] in new:
                self.spools[oid].gap = "it was truncated"

    def _ends(self, prefix: str, content: bytes) -> bool:
        if prefix == PREFIX:
            self.passed.add(content.decode())
        return self.marker in self.passed

    def _flush_largest(self) -> int:
        """Returns what is still held: counted anew, or errors would add up over a long stream."""
        max(self._rows.values(), key=lambda rows: rows.size).flush()
        return sum(rows.size for rows in self._rows.values())
