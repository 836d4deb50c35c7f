"""Where a copy differs from its source, row by row: values, not errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What is wrong with a row of a copy."""

    MISSING = "missing"  # the source has it, the copy does not
    EXTRA = "extra"  # the copy has it, the source does not; or has it once more
    UNEQUAL = "unequal"  # both have a row with this key, and a column differs


@dataclass(frozen=True)
class Difference:
    """One column of an unequal row, or one missing or extra row.

    key:    the row's key, `a=1, b=x`; the row itself where the table has no key
    column: '' where the row as a whole is missing or extra
    source, copy: the values as people may see them (`proof.shown`), None for NULL and for no row
    batch:  of the lake, that last wrote the row; None where the lake does not hold it
    rows:   so many equal rows, in a table without a key
    """

    kind: Kind
    key: str
    column: str = ""
    source: str | None = None
    copy: str | None = None
    batch: int | None = None
    rows: int = 1


@dataclass(frozen=True)
class Found:
    """What a bisection came to.

    counts: rows by kind; exact, but for the groups that were not bisected
    listed: the first of these rows, column by column
    rest:   groups that differ and were not bisected
    note:   why they were not
    """

    counts: Mapping[Kind, int] = field(default_factory=dict[Kind, int])
    listed: tuple[Difference, ...] = ()
    rest: int = 0
    note: str = ""

    @property
    def rows(self) -> int:
        """Rows of the copy that are to be written or deleted to make it right."""
        return sum(self.counts.values())

    def __add__(self, other: "Found") -> "Found":
        kinds = [kind for kind in Kind if kind in self.counts or kind in other.counts]
        counts = {kind: self.counts.get(kind, 0) + other.counts.get(kind, 0) for kind in kinds}
        notes = dict.fromkeys(note for note in (self.note, other.note) if note)
        listed, rest = self.listed + other.listed, self.rest + other.rest
        return Found(counts, listed, rest, " ".join(notes))
