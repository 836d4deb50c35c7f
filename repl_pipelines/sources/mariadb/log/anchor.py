"""What a table's copy must remember to be continued from the log: the horizon of mode `log`."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from repl_pipelines.sources.mariadb.log.gtid import Gtids


@dataclass(frozen=True)
class Place:
    """Where a reading of the log begins, and what tells that it is the same log still.

    file, offset: of an event that is read again, or of the end of the last one
    created: seconds since 1970 at which the server made the file
    seal:    checksum of that event; None where there was none
    before:  all transactions in front of it
    """

    file: str
    offset: int
    created: int
    seal: int | None
    before: Gtids

    @property
    def order(self) -> int:
        """As `order` has it."""
        return order(self.file, self.offset)


def order(file: str, offset: int) -> int:
    """A number that grows along one server's log, whose files are numbered (`Position.order`)."""
    return (int(file.rpartition(".")[2]) << 40) + offset


@dataclass(frozen=True)
class Anchor:
    """Stored with every batch of a table (`Entry.horizon`).

    gtids: what the copy equals; at: when that was, in microseconds since 1970
    """

    gtids: Gtids
    at: int
    place: Place

    def to_text(self) -> str:
        place: dict[str, Any] = {**asdict(self.place), "before": str(self.place.before)}
        return json.dumps({"gtids": str(self.gtids), "at": self.at, **place}, sort_keys=True)

    @classmethod
    def parse(cls, text: str | None, gtids_of: Callable[[str], Gtids]) -> "Anchor | None":
        """None for a horizon that is not one of ours, such as another mode's."""
        try:
            plain = json.loads(text or "")
            gtids, before = (gtids_of(plain.pop(name)) for name in ("gtids", "before"))
            return cls(gtids, int(plain.pop("at")), Place(**plain, before=before))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
