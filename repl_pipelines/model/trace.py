"""What a replication has made somewhere, and what its removal would therefore take away."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Trace:
    """kind: slot, publication, table, schema, file or objects; size: bytes; count: of objects."""

    kind: str
    name: str
    size: int = 0
    count: int = 1
