"""What a table's copy must remember to be continued from the stream: the horizon of mode `log`."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Anchor:
    """Stored with every batch of a table (`Entry.horizon`).

    snapshot: the one the copy equals, as text; the next batch leaves out what it shows
    safe:     position in the log before which every commit is visible in that snapshot; while the
              slot's confirmed position is not beyond it, the stream still has all that follows
    marker:   content of the message that ended that sync's reading; the log has it behind `safe`,
              or it is another log
    system:   system identifier and timeline: elsewhere the same numbers mean other transactions
    shape, published: as `revision.Revision` has them
    """

    snapshot: str
    safe: int
    marker: str
    system: str
    shape: str
    published: str

    def to_text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str | None) -> "Anchor | None":
        """None for a horizon that is not one of ours, such as another mode's."""
        try:
            return cls(**json.loads(text or ""))
        except (ValueError, TypeError):
            return None


def broken(anchor: "Anchor | None", now: "Anchor", confirmed: int, end: int) -> str:
    """Why the stream does not have all that was said since this anchor; '' if it has.

    now: as the table stands in this sync's snapshot; confirmed, end: where the slot's stream and
    the log stand
    """
    if anchor is None:
        return "it was not copied beside the stream"
    if anchor.system != now.system:
        return "the server, or its timeline, is another one"
    if not confirmed <= anchor.safe <= end:
        return "the slot has been lost, moved or made anew"
    if anchor.published != now.published:
        return "its publication was changed"
    return ""


def altered(anchor: "Anchor | None", now: "Anchor") -> str:
    """What the stream does not tell, complete as it is; '' if it tells all."""
    same = anchor is None or anchor.shape == now.shape
    return "" if same else "it was altered, truncated or rewritten"


def lsn_text(number: int) -> str:
    """An integer as PostgreSQL writes a log sequence number: `16/B374D848`."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"
