"""Which rows of a table are meant; a source renders it into its own language."""

from dataclasses import dataclass


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
class Buckets:
    """Rows in these of `of` buckets (see `proof.checksum`).

    partitions: only of these time partitions; none: of the whole table
    """

    numbers: tuple[int, ...]
    of: int
    partitions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Keys:
    """Rows with these keys; each key one text per key column, as the source writes values."""

    keys: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Piece:
    """Rows in one stretch of the table, as `Snapshot.pieces` names it; opaque to others."""

    name: str


Selection = Everything | Since | Partitions | Range | Buckets | Keys | Piece
