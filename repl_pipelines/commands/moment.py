"""Times as they are written on a command line."""

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


TIME = Time()
