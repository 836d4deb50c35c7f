"""Counts and checksums of a set of rows, and how two of them differ: values, not errors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MODULUS = 2**64


@dataclass(frozen=True)
class Figure:
    """Row count and two independent sums of row hashes, modulo 2**64; order does not matter."""

    rows: int = 0
    sum1: int = 0
    sum2: int = 0

    @classmethod
    def of(cls, rows: int, sum1: int | None, sum2: int | None) -> "Figure":
        """From the engines' sums, which may be signed, unreduced, or NULL over no rows."""
        return cls(int(rows), int(sum1 or 0) % MODULUS, int(sum2 or 0) % MODULUS)

    def __add__(self, other: "Figure") -> "Figure":
        return Figure.of(self.rows + other.rows, self.sum1 + other.sum1, self.sum2 + other.sum2)

    def __str__(self) -> str:
        return f"{self.rows}:{self.sum1:016x}{self.sum2:016x}"

    @classmethod
    def parse(cls, text: str) -> "Figure":
        rows, sums = text.split(":")
        return cls(int(rows), int(sums[:16], 16), int(sums[16:], 16))


@dataclass(frozen=True)
class Figures:
    """Figures by group: bucket number or partition key; a group without rows has no entry."""

    groups: Mapping[str, Figure]

    @property
    def total(self) -> Figure:
        return sum(self.groups.values(), Figure())

    def __add__(self, other: "Figures") -> "Figures":
        """Figures of both sets of rows together."""
        both = (*self.groups.items(), *other.groups.items())
        return Figures.gather((name, f.rows, f.sum1, f.sum2) for name, f in both)

    def coarsened(self, buckets: int) -> "Figures":
        """Figures by bucket number, in fewer buckets: their number must divide the present one."""
        return Figures.gather(
            (int(name) % buckets, f.rows, f.sum1, f.sum2) for name, f in self.groups.items()
        )

    def to_text(self) -> str:
        """Compact and exact; group names must not contain '=' or ','."""
        return ",".join(f"{name}={figure}" for name, figure in sorted(self.groups.items()))

    @classmethod
    def parse(cls, text: str) -> "Figures":
        pairs = (pair.split("=", 1) for pair in text.split(",") if pair)
        return cls({name: Figure.parse(figure) for name, figure in pairs})

    @classmethod
    def gather(cls, records: Iterable[tuple[object, int, int | None, int | None]]) -> "Figures":
        """Sum up (group, rows, sum1, sum2) records; groups may come in several parts."""
        groups: dict[str, Figure] = {}
        for group, rows, sum1, sum2 in records:
            name = "" if group is None else str(group)
            groups[name] = groups.get(name, Figure()) + Figure.of(rows, sum1, sum2)
        return cls({name: figure for name, figure in groups.items() if figure.rows})


@dataclass(frozen=True)
class GroupDifference:
    """One group whose figures are unequal."""

    group: str
    source: Figure
    copy: Figure


def differences(source: Figures, copy: Figures) -> tuple[GroupDifference, ...]:
    """The groups that differ, in order of their names; empty means equal."""
    nothing = Figure()
    names = sorted(source.groups.keys() | copy.groups.keys())
    pairs = ((n, source.groups.get(n, nothing), copy.groups.get(n, nothing)) for n in names)
    return tuple(GroupDifference(n, s, c) for n, s, c in pairs if s != c)
