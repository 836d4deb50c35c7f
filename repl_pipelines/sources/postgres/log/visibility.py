"""Which transactions a snapshot shows: `pg_visible_in_snapshot`, computed here.

PostgreSQL documentation, "Transaction ID and Snapshot Information Functions": a snapshot is
`xmin:xmax:xip_list`; what is below xmin has ended, what is at or above xmax had not begun, and of
the rest those in the list were in progress. Top-level transactions only, which is what the stream
names.
"""

from dataclasses import dataclass

_EPOCH = 2**32


@dataclass(frozen=True)
class Visibility:
    """A snapshot as text and as numbers (64-bit transaction ids)."""

    text: str
    xmin: int
    xmax: int
    in_progress: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Visibility":
        xmin, xmax, running = text.split(":")
        return cls(
            text, int(xmin), int(xmax), frozenset(map(int, filter(None, running.split(","))))
        )

    def shows(self, xid: int) -> bool:
        """Whether a committed transaction is visible; xid: the low 32 bits, as the stream has it.

        The full id is the one nearest to this snapshot: 2^31 transactions lie between any two that
        can be told apart at all.
        """
        full = self.xmax - self.xmax % _EPOCH + xid
        if full - self.xmax > _EPOCH // 2:
            full -= _EPOCH
        elif self.xmax - full > _EPOCH // 2:
            full += _EPOCH
        return full < self.xmin or (full < self.xmax and full not in self.in_progress)
