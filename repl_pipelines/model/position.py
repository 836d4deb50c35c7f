"""A point in a source's history."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Position:
    """Where in a source's history a copy stands.

    at:    the source's own clock when the snapshot was taken (UTC)
    order: grows along the history of one source (PostgreSQL: the LSN as an integer)
    token: what the source needs to recognise the point again (PostgreSQL: lsn, snapshot, system)
    """

    at: datetime
    order: int
    token: Mapping[str, str]

    def after(self, other: "Position") -> bool:
        """Whether this is the later of two snapshots that were taken about the same time.

        The clock decides between equal orders, and against an order that was set back: a source
        restored from a backup starts again at a lower one.
        """
        return self.order >= other.order and self.at > other.at

    def to_json(self) -> str:
        return json.dumps(
            {"at": self.at.isoformat(), "order": self.order, "token": dict(self.token)},
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> "Position":
        raw = json.loads(text)
        return cls(datetime.fromisoformat(raw["at"]), int(raw["order"]), raw["token"])

    def __str__(self) -> str:
        return self.token.get("lsn", str(self.order))
