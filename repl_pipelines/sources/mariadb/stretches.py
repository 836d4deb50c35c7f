"""Tables in ranges of the first column of their key: what one statement reads, and one worker.

Only of a number that an index has are ranges read at the cost of their rows. Any other table is
one stretch; since rows are streamed, that costs time and not memory.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table
from repl_pipelines.sources.mariadb.values import data_type

PIECE = 4  # stretches in a piece that is kept when a copy is killed
_NUMBERS = frozenset(["tinyint", "smallint", "mediumint", "int", "bigint"])


def axis(table: Table) -> str | None:
    """The column that is cut; None if the table cannot be."""
    if not table.key or not table.key_enforced:
        return None
    column = table.column(table.key[0])
    if column.concealed:  # bounds are values, and are shown
        return None
    # Kept as text it has another order in the copies, but none is asked for here.
    return column.name if data_type(column) in _NUMBERS else None


@dataclass(frozen=True)
class Stretch:
    """Rows from one number up to another; None is open, so that a table that grows is all read."""

    first: int | None = None
    last: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Stretch":
        """From its `text`."""
        first, last = text.split("..")
        return cls(int(first) if first else None, int(last) if last else None)

    @property
    def text(self) -> str:
        return f"{_shown(self.first)}..{_shown(self.last)}"

    def sql(self, table: Table) -> str:
        """The stretch as a condition."""
        name = quote(axis(table) or "")
        above = None if self.first is None else f"{name} >= {self.first}"
        below = None if self.last is None else f"{name} < {self.last}"
        return " AND ".join(filter(None, (above, below))) or "true"


WHOLE = Stretch()


def cut(lowest: int, highest: int, count: int, within: Stretch = WHOLE) -> list[Stretch]:
    """About `count` stretches for all numbers from lowest to highest, or those of them within."""
    step = max(1, math.ceil((highest - lowest + 1) / max(1, count)))
    start = lowest if within.first is None else within.first
    end = highest if within.last is None else within.last - 1
    bounds = [within.first, *range(start + step, end + 1, step), within.last]
    return [Stretch(a, b) for a, b in pairwise(bounds)]


def gaps(done: Iterable[Stretch]) -> list[Stretch]:
    """What a table has besides these."""
    found: list[Stretch] = []
    first: int | None = None
    for number, one in enumerate(sorted(done, key=lambda s: (s.first is not None, s.first or 0))):
        if one.first is not None and (number == 0 or first is None or one.first > first):
            found.append(Stretch(first, one.first))
        if one.last is None:
            return found
        first = one.last if number == 0 or first is None else max(first, one.last)
    return [*found, Stretch(first)]


def _shown(bound: int | None) -> str:
    return "" if bound is None else str(bound)
