"""Which rows of a table are meant; a source renders it into its own language."""

from dataclasses import dataclass, replace

from repl_pipelines.model.sql import literal, quote


@dataclass(frozen=True)
class Everything:
    """All rows."""


@dataclass(frozen=True)
class Since:
    """Rows whose cursor is at or after `horizon` (as the snapshot gave it), or NULL; None: all."""

    horizon: str | None


@dataclass(frozen=True)
class Partitions:
    """Rows of these time partitions; keys as in `model.partitions`, `''` for a NULL time."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """Rows with `lower <= column < upper`, in the column's own text form; None is open."""

    column: str
    lower: str | None
    upper: str | None


@dataclass(frozen=True)
class Span:
    """Rows with `lower <= column < upper`, of a column whose order all engines share.

    None is open; below the least value are the NULLs, so that spans can hold every row.
    """

    column: str
    lower: str | None
    upper: str | None

    @property
    def sql(self) -> str:
        """The span as a condition, in any of the dialects: a bare literal takes its type there."""
        name = quote(self.column)
        below = f"{name} < {literal(self.upper)}"
        if self.lower is None:
            return "true" if self.upper is None else f"({below} OR {name} IS NULL)"
        above = f"{name} >= {literal(self.lower)}"
        return above if self.upper is None else f"({above} AND {below})"


@dataclass(frozen=True)
class Buckets:
    """Rows in these of `of` buckets (see `proof.checksum`).

    partitions: only of these time partitions; none: of the whole table
    within:     only of these spans; none: of the whole table
    """

    numbers: tuple[int, ...]
    of: int
    partitions: tuple[str, ...] = ()
    within: tuple[Span, ...] = ()

    def joined(self, before: "Buckets | None") -> "Buckets":
        """These with those of `before`: its buckets too, or its spans.

        Where a span begins where the last one ended, they are one.
        """
        if before is None:
            return self
        spans = list(before.within)
        for span in self.within:
            if spans and spans[-1].upper is not None and spans[-1].upper == span.lower:
                spans[-1] = replace(spans[-1], upper=span.upper)
            else:
                spans.append(span)
        numbers = tuple(sorted({*before.numbers, *self.numbers}))
        return replace(self, numbers=numbers, within=tuple(spans))


@dataclass(frozen=True)
class Keys:
    """Rows with these keys; each key one text per key column, as the source writes values.

    columns: others by which rows are told; none: those of the table's key
    """

    keys: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """Rows in one stretch of the table, as `Snapshot.pieces` names it; opaque to others."""

    name: str


Selection = Everything | Since | Partitions | Range | Buckets | Keys | Piece
