"""How far a copy is behind its source."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from repl_pipelines.model.position import Position


@dataclass(frozen=True)
class Lag:
    """seconds: None for an empty copy; distance: in the source's order, None if not known."""

    seconds: float | None
    distance: int | None


def behind(position: Position | None, now: Position | None) -> Lag:
    """The lag of a copy at `position`. now: the source's; if it is not known, by our clock."""
    if position is None:
        return Lag(None, None)
    if now is None:
        return Lag((datetime.now(UTC) - position.at).total_seconds(), None)
    seconds = (now.at - position.at).total_seconds()
    return Lag(max(seconds, 0.0), max(now.order - position.order, 0))


def furthest(lags: Iterable[Lag]) -> Lag:
    """The lag of the copy that is furthest behind: an empty one, if there is any."""
    lags = list(lags)
    empty = [lag for lag in lags if lag.seconds is None]
    return (empty or sorted(lags, key=lambda lag: -(lag.seconds or 0)) or [Lag(None, None)])[0]


def spoken(seconds: float | None) -> str:
    """A length of time in its largest unit, as people say it."""
    if seconds is None:
        return "never"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(seconds, 0))} s"
