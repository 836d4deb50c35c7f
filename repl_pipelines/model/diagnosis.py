"""What was looked at before anything is moved, how it was found, and what would mend it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from repl_pipelines.errors import ReplicationError

TOLERATED = 5.0  # seconds by which clocks may differ


class Grade(StrEnum):
    """How something was found."""

    WELL = "well"
    ADVICE = "advice"  # it works; something could be better, or will be needed
    FAULT = "fault"  # a sync or a proof fails, or will


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at. about: in a word or two, or the table; fix: '' if well."""

    about: str
    grade: Grade
    what: str
    fix: str = ""


def well(about: str, what: str) -> Diagnosis:
    """Nothing is to be done."""
    return Diagnosis(about, Grade.WELL, what)


def advice(about: str, what: str, fix: str) -> Diagnosis:
    """Something could be better."""
    return Diagnosis(about, Grade.ADVICE, what, fix)


def fault(about: str, what: str, fix: str) -> Diagnosis:
    """A sync or a proof fails, or will."""
    return Diagnosis(about, Grade.FAULT, what, fix)


def examined(about: str, look: Callable[[], Iterable[Diagnosis]]) -> list[Diagnosis]:
    """What a look finds; what ends it is a fault, too."""
    found: list[Diagnosis] = []
    try:
        found.extend(look())
    except ReplicationError as error:
        found.append(fault(about, error.what, error.remedy))
    return found


def clock(seconds: float) -> Diagnosis:
    """Of a clock that is `seconds` ahead of ours."""
    ahead = f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} ours"
    if abs(seconds) < TOLERATED:
        return well("clock", ahead)
    return advice("clock", ahead, "Keep both by NTP: lags and ages are told by these clocks.")
