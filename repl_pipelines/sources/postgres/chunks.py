"""Tables in ranges of their rows' places: what one statement reads, and one worker holds."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

# Of the largest leaf; bytes of all, with what is stored out of line. Nothing for views.
PAGES = """
select coalesce(max(pg_relation_size(relid)), 0) / current_setting('block_size')::bigint,
       coalesce(sum(pg_table_size(relid)), 0)::bigint
from (select {oid}::regclass union all select relid from pg_partition_tree({oid})) as leaf(relid)
"""


TUPLES = 2048  # more than the largest page holds
PIECE = 4  # chunks in a piece that is kept when a copy is killed
# A worker holds a chunk of few rows whole, and some copies of it, where a row is that many bytes.
WIDE, HELD = 2**20, 16 * 2**20


@dataclass(frozen=True)
class Chunk:
    """Rows from one place up to another; a place is a page's number times TUPLES plus the row's.

    last: None is the end, so that a table that grows is all read
    """

    first: int = 0
    last: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Chunk":
        """From its `text`."""
        first, last = text.split("-")
        return cls(int(first), int(last) if last else None)

    @property
    def text(self) -> str:
        return f"{self.first}-{'' if self.last is None else self.last}"

    @property
    def sql(self) -> str:
        """The chunk as a condition."""
        above = f"ctid >= {_ctid(self.first)}"
        if self.last is None:
            return above if self.first else "true"
        return f"{above} AND ctid < {_ctid(self.last)}"

    def halves(self, pages: int) -> list["Chunk"]:
        """Two chunks instead of this one, of a table with so many pages; none if it is one row."""
        last = max(pages * TUPLES, self.first + 1) if self.last is None else self.last
        middle = (self.first + last) // 2
        if middle == self.first:
            return []
        return [Chunk(self.first, middle), Chunk(middle, self.last)]


WHOLE = Chunk()


def cut(pages: int, size: int, limit: int, within: Chunk = WHOLE) -> list[Chunk]:
    """A table of so many pages and bytes, or a part of it, in chunks of about `limit` bytes.

    Each is of whole pages.
    """
    step = max(1, math.ceil(pages / max(1, math.ceil(size / limit)))) * TUPLES
    end = pages * TUPLES if within.last is None else within.last
    starts = range(within.first, end, step)
    if len(starts) < 2:
        return [within]
    return [*(Chunk(s, s + step) for s in starts[:-1]), Chunk(starts[-1], within.last)]


def cut_rows(pages: int, size: int, rows: int, within: Chunk = WHOLE) -> list[Chunk]:
    """A table of wide rows, or a part of it, in chunks of about HELD bytes, within its pages."""
    together, in_page = max(1, HELD * rows // size), math.ceil(rows / pages)
    if together >= in_page:
        return cut(pages, size, HELD, within)
    end = pages * TUPLES if within.last is None else within.last
    offsets = [0, *(1 + row for row in range(together, in_page, together))]  # rows count from 1
    pages_within = range(within.first // TUPLES, math.ceil(end / TUPLES))
    places = (page * TUPLES + offset for page in pages_within for offset in offsets)
    starts = [within.first, *(place for place in places if within.first < place < end)]
    return [Chunk(s, n) for s, n in zip(starts, [*starts[1:], within.last], strict=True)]


def gaps(done: Iterable[Chunk]) -> list[Chunk]:
    """What a table has besides these."""
    found: list[Chunk] = []
    first = 0
    for chunk in sorted(done, key=lambda one: one.first):
        if chunk.first > first:
            found.append(Chunk(first, chunk.first))
        if chunk.last is None:
            return found
        first = max(first, chunk.last)
    return [*found, Chunk(first)]


def _ctid(place: int) -> str:
    return f"'({place // TUPLES},{place % TUPLES})'"
