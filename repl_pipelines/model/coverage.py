"""Which rows of a table proofs have compared, and when: ranges of its key, or of its buckets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from repl_pipelines.model.selection import Buckets

_PARTS = 512  # of one coverage, at most; more are joined, each then as old as its oldest


class Order(StrEnum):
    """What puts the rows of an axis in order."""

    INTEGER = "integer"
    UUID = "uuid"
    BUCKET = "bucket"


@dataclass(frozen=True)
class Axis:
    """An order of a table's rows that the source and every copy share.

    column:    the first one of the key; '' where the order is that of the buckets of keys
    scattered: the source keeps neighbours on this axis in places far apart
    """

    column: str = ""
    order: Order = Order.BUCKET
    scattered: bool = field(default=False, compare=False)

    def text(self, value: int) -> str:
        """A value as SQL, and a person, writes it."""
        return str(UUID(int=value)) if self.order is Order.UUID else str(value)

    def value(self, text: str) -> int:
        """A value that was written as text. Raises ValueError."""
        return UUID(text).int if self.order is Order.UUID else int(text)


@dataclass(frozen=True)
class Part:
    """Rows from `lower` (None: the least) up to the next part; at: when last proven, if ever."""

    lower: int | None
    at: datetime | None

    @property
    def time(self) -> float:
        """When it was last proven, in seconds since 1970; before all times, if never."""
        return self.at.timestamp() if self.at else -math.inf


@dataclass(frozen=True)
class Coverage:
    """When each row of a table was last proven. parts: all of the axis, in order."""

    axis: Axis
    parts: tuple[Part, ...] = (Part(None, None),)

    @property
    def oldest(self) -> Part:
        """The part that was left longest: where the next proof begins."""
        return min(self.parts, key=lambda part: part.time)

    def covered(self, lower: int | None, upper: int | None, at: datetime) -> "Coverage":
        """With the rows from `lower` to below `upper` (None: to the end) proven at `at`."""
        known = {part.lower: part.at for part in self.parts}
        cuts = {*known, lower} | ({upper} if upper is not None else set())
        parts: list[Part] = []
        before: datetime | None = None
        for cut in sorted(cuts, key=_place):
            before = known.get(cut, before)
            inside = _place(lower) <= _place(cut) and (upper is None or _place(cut) < _place(upper))
            when = at if inside else before
            if not parts or parts[-1].at != when:
                parts.append(Part(cut, when))
        return Coverage(self.axis, _few(parts))

    def until(self, lower: int | None, at: datetime) -> int | None:
        """How far from `lower` on nothing was proven at `at`; None: to the end."""
        place = _place(lower)
        return next((p.lower for p in self.parts if _place(p.lower) > place and p.at == at), None)

    def plain(self) -> Mapping[str, Any]:
        """As the record of a proof has it."""
        return {
            "by": self.axis.column,
            "order": self.axis.order.value,
            "proven": [
                ["" if p.lower is None else self.axis.text(p.lower), p.at and p.at.isoformat()]
                for p in self.parts
            ],
        }

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> "Coverage":
        """From a record. Raises ValueError, KeyError, TypeError."""
        axis = Axis(plain["by"], Order(plain["order"]))
        parts = [
            Part(axis.value(lower) if lower else None, datetime.fromisoformat(at) if at else None)
            for lower, at in plain["proven"]
        ]
        return cls(axis, tuple(parts))


@dataclass(frozen=True)
class Cover:
    """The part of a table that one proof compared.

    rows:     which they are
    share:    of the table's rows, from 0 to 1, as far as the source's estimates go
    coverage: of the whole table, with this proof
    """

    rows: Buckets
    share: float
    coverage: Coverage

    def plain(self) -> Mapping[str, Any]:
        """As the record of a proof has it."""
        if self.rows.within:
            spans = [[span.lower or "", span.upper or ""] for span in self.rows.within]
            return {"column": self.rows.within[0].column, "ranges": spans}
        return {"buckets": list(self.rows.numbers), "of": self.rows.of}


def roundest(low: int, high: int) -> int:
    """The number above `low`, up to `high`, with the most zeros at its end, in binary.

    A range that ends there needs the value of no row for its bound.
    """
    if low < 0 <= high:
        return 0
    zeros = 0
    while high >> zeros + 1 << zeros + 1 > low:
        zeros += 1
    return high >> zeros << zeros


def _place(bound: int | None) -> tuple[bool, int]:
    return (bound is not None, bound or 0)


def _few(parts: list[Part]) -> tuple[Part, ...]:
    while len(parts) > _PARTS:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [Part(pair[0].lower, min(pair, key=lambda p: p.time).at) for pair in pairs]
    return tuple(parts)
