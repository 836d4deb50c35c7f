"""How far back a cursor read must start so that no late commit is missed.

`updated_at = now()` is the start of a transaction, and a transaction may commit long after rows
with larger cursors were read. Every transaction that may still write a row is either open when the
horizon is taken, prepared, or starts later; so the least start of the open ones, less a margin for
the moment between a start and its display, bounds all cursors still to come. Readers count, too:
they may become writers. (docs/exactness.md, "Cursor mode".)
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from repl_pipelines.errors import DeclarationError, GrantMissing
from repl_pipelines.model.column import Column, Family
from repl_pipelines.sources.postgres.connection import Connection

# Between the receipt of a statement, which sets xact_start, and its display in pg_stat_activity.
MARGIN = timedelta(seconds=5)
# A timestamp without zone was written in some session's zone: UTC-16 is beyond the westernmost.
ZONE_MARGIN = timedelta(hours=16)

TIMES = frozenset({Family.TIMESTAMPTZ, Family.TIMESTAMP, Family.DATE})
USABLE = TIMES | {Family.INTEGER}

_OPEN = """
select min(xact_start) from pg_stat_activity
where xact_start is not null and pid <> pg_backend_pid()
  and (datname = current_database() or datname is null)
  and backend_type not in ('autovacuum worker', 'walsender')
  and not (usename = current_user and application_name like 'repl_pipelines %')
"""
_PREPARED = "select count(*) from pg_prepared_xacts where database = current_database()"


@dataclass(frozen=True)
class Watermark:
    """What was known just before the snapshot was taken.

    taken:  the server's clock
    oldest: no transaction still to commit started before this; None while one is prepared
    """

    taken: datetime
    oldest: datetime | None


def watermark(connection: Connection, source: str) -> Watermark:
    """Observe the open transactions; call before taking the snapshot. Raises GrantMissing."""
    standby, may_see, role = connection.execute(
        "select pg_is_in_recovery(), pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),"
        " quote_ident(current_user)"
    ).fetchone() or (False, False, "?")
    if standby:
        raise DeclarationError(
            f"Source {source!r} is a standby; it does not show the transactions open on its"
            " primary, so mode cursor could miss rows.",
            "Point the source at the primary, or use mode full or partition.",
        )
    if not may_see:
        raise GrantMissing(
            f"Source {source!r}: role {role} may not see when other sessions' transactions began,"
            " so mode cursor could miss late commits.",
            f"GRANT pg_read_all_stats TO {role};",
        )
    taken = _only(connection, "select clock_timestamp()")
    oldest = _only(connection, _OPEN)  # before the prepared ones: a transaction moves that way
    prepared = _only(connection, _PREPARED)
    assert isinstance(taken, datetime)
    if prepared:
        return Watermark(taken, None)
    return Watermark(taken, min(taken, oldest if isinstance(oldest, datetime) else taken) - MARGIN)


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


def _only(connection: Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None
