"""How far back a cursor read must start so that no late commit is missed.

`updated_at = now()` is the start of a transaction (PostgreSQL) or of a statement (MariaDB), and it
may commit long after rows with larger cursors were read. Every transaction that may still write a
row is either open when the horizon is taken, prepared, or starts later; so the least start of the
open ones, less a margin for the moment between a start and its display, bounds all cursors still to
come. Readers count, too: they may become writers. (docs/exactness.md, "Cursor mode".)
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from repl_pipelines.model.column import Column, Family

# Between the receipt of a statement, which sets its start, and the display of that.
MARGIN = timedelta(seconds=5)
# A timestamp without zone was written in some session's zone: UTC-16 is beyond the westernmost.
ZONE_MARGIN = timedelta(hours=16)

TIMES = frozenset({Family.TIMESTAMPTZ, Family.TIMESTAMP, Family.DATE})
USABLE = TIMES | {Family.INTEGER}


@dataclass(frozen=True)
class Watermark:
    """What was known just before the snapshot was taken.

    taken:  the server's clock
    oldest: no transaction still to commit started before this; None while one is prepared
    """

    taken: datetime
    oldest: datetime | None


def advance(column: Column, mark: Watermark, previous: str | None, highest: object) -> str | None:
    """The horizon to store with this batch: canonical text for the column's type, or marks.

    `highest` is the largest cursor visible in the snapshot (integers only). None: read everything.
    """
    if column.family is Family.INTEGER:
        return _advance_number(mark, previous, highest)
    if mark.oldest is None:
        return previous
    if column.family is Family.TIMESTAMPTZ:
        return mark.oldest.isoformat(sep=" ")
    local = (mark.oldest - ZONE_MARGIN).replace(tzinfo=None)
    return local.date().isoformat() if column.family is Family.DATE else local.isoformat(sep=" ")


def start(column: Column, horizon: str | None) -> str | None:
    """The least cursor value to read, from a stored horizon; None reads everything."""
    if horizon is None or column.family in TIMES:
        return horizon
    value = json.loads(horizon)["value"]
    return None if value is None else str(value)


def _advance_number(mark: Watermark, previous: str | None, highest: object) -> str:
    """Numbers drawn from a sequence: the largest one seen before every open transaction began.

    A transaction that began after the mark (t, n) was taken draws numbers above n; so n is settled
    once all transactions that are open began after t.
    """
    known = json.loads(previous or '{"value": null, "marks": []}')
    marks: list[tuple[str, int]] = [(t, n) for t, n in known["marks"]]
    value: int | None = known["value"]
    if mark.oldest is not None:
        settled = [n for t, n in marks if datetime.fromisoformat(t) < mark.oldest]
        marks = [(t, n) for t, n in marks if datetime.fromisoformat(t) >= mark.oldest]
        value = max([n for n in (value, *settled) if n is not None], default=None)
    if isinstance(highest, int):
        marks.append((mark.taken.isoformat(), highest))
    return json.dumps({"value": value, "marks": marks[-100:]})
