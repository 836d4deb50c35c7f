"""Times and positions as they are written on a command line."""

import re
from datetime import UTC, datetime
from typing import Any

import click


class Time(click.ParamType[datetime]):
    """A time in ISO 8601, in UTC where it names no zone."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is no time such as 2026-11-23 or 2026-11-23T12:00:00Z.", param, ctx
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Moment(click.ParamType[datetime | int]):
    """A time, or a position as an integer or as PostgreSQL's log sequence number."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | int:
        if isinstance(value, int) or re.fullmatch(r"\d+", value):
            return int(value)
        if lsn := re.fullmatch(r"([0-9A-Fa-f]+)/([0-9A-Fa-f]+)", value):
            high, low = (int(part, 16) for part in lsn.groups())
            return (high << 32) + low
        return TIME.convert(value, param, ctx)


TIME = Time()
MOMENT = Moment()
