"""Positions of MySQL's binary log as sets of transactions, not as texts.

`uuid:1-5:7,uuid2:1-3:tag:1-2` names the transactions of each server, and of each tag of it, in
ranges that may have holes. MySQL manual, "GTID Format and Storage".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Gtid:
    """One transaction. source: the server's UUID, and `:tag` where it has one."""

    source: str
    number: int

    def __str__(self) -> str:
        return f"{self.source}:{self.number}"


@dataclass(frozen=True)
class GtidSet:
    """Any transactions, in ranges that do not touch; equal as sets are."""

    ranges: Mapping[str, _Ranges] = field(default_factory=dict[str, _Ranges])

    @classmethod
    def parse(cls, text: str) -> "GtidSet":
        """From what the server says (`@@gtid_executed`). Raises ValueError."""
        found: dict[str, list[tuple[int, int]]] = {}
        for part in filter(None, "".join(text.lower().split()).split(",")):
            server, *words = part.split(":")
            source = server
            if not words or server.count("-") != 4:
                raise ValueError(text)
            for word in words:
                if word[:1].isdigit():
                    first, _, last = word.partition("-")
                    found.setdefault(source, []).append((int(first), int(last or first)))
                else:
                    source = f"{server}:{word}"
        return cls({source: _merged(ranges) for source, ranges in found.items()})

    def holds(self, gtid: Gtid) -> bool:
        """Whether a transaction is one of them."""
        return any(a <= gtid.number <= b for a, b in self.ranges.get(gtid.source, ()))

    def includes(self, other: "GtidSet") -> bool:
        """Whether all of another set is in this one."""
        return all(
            any(a <= first and last <= b for a, b in self.ranges.get(source, ()))
            for source, ranges in other.ranges.items()
            for first, last in ranges
        )

    def with_next(self, gtid: Gtid) -> "GtidSet":
        """With one more transaction."""
        known = self.ranges.get(gtid.source, ())
        return GtidSet({**self.ranges, gtid.source: _merged([*known, (gtid.number, gtid.number)])})

    def __str__(self) -> str:
        """A tag's ranges stand behind their server's name once more, which MySQL reads as well."""
        return ",".join(
            f"{source}:{':'.join(f'{a}-{b}' if b > a else f'{a}' for a, b in self.ranges[source])}"
            for source in sorted(self.ranges)
        )


def _merged(ranges: Iterable[tuple[int, int]]) -> _Ranges:
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)
