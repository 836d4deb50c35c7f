"""Records of proofs, chained: each carries the SHA-256 of the one before it.

A record is its own canonical JSON (keys sorted, no blanks, UTF-8, no floats), and its hash is that
of these bytes. What a chain can show by itself, and what it cannot: docs/exactness.md, "Evidence".
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

RENAMED = "renamed_from"  # in the first record of a source with a new name: the one before
BEGINNING = "0" * 64  # what the first record carries


class Told(StrEnum):
    """What a record tells of a copy. Not to be able to compare is an error, not a difference."""

    EQUAL = "equal"
    DIFFERENT = "different"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Link:
    """A record's place in its chain: its number, from 1 without gaps, and its hash."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number} {self.hash}"


START = Link(0, BEGINNING)


@dataclass(frozen=True)
class Verified:
    """What a chain came to.

    before: the link that the first record follows
    last:   the last record that is right
    broken: the first one that is not, and why; '' if all are
    """

    before: Link = START
    last: Link = START
    broken: str = ""


def record(content: Mapping[str, Any], after: Link) -> bytes:
    """The record of `content` that follows `after`."""
    return canonical({**content, "number": after.number + 1, "previous": after.hash})


def renamed(content: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a record says beside its content if the source has another name since the last one."""
    source = before.get("source")
    return {RENAMED: source} if source is not None and source != content.get("source") else {}


def canonical(plain: Mapping[str, Any]) -> bytes:
    """The one JSON text of these values."""
    return json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def link(content: bytes) -> Link:
    """The place of a record, by its bytes. Raises ValueError."""
    return Link(int(json.loads(content)["number"]), hashlib.sha256(content).hexdigest())


def verify(
    records: Iterable[tuple[str, bytes]], *, begins: str | None = None, ends: str | None = None
) -> Verified:
    """Hold each record (name, bytes; in order) against the one before it.

    begins: the hash that the first one must carry; without it, only record 1 is held to BEGINNING
    ends:   the hash that the last one must have, as it was noted elsewhere
    """
    chain = _Chain(begins)
    rest = iter(records)
    for name, content in rest:
        broken = chain.broken_by(name, content, rest)
        if broken:
            return Verified(chain.before, chain.last, broken)
    broken = ""
    if ends is not None and chain.last.hash != ends:
        broken = f"{chain.named or 'nothing'}: the chain was to end with another record, {ends}"
    return Verified(chain.before, chain.last, broken)


class _Chain:
    """What has been read of a chain, all of it right so far."""

    def __init__(self, begins: str | None) -> None:
        self._begins = begins
        self._about: object = None
        self.before = self.last = START
        self.named = ""  # the last record, as its place names it

    def broken_by(self, name: str, content: bytes, rest: Iterable[tuple[str, bytes]]) -> str:
        """Why the chain is broken at this record; '' if it is not, and then it belongs to it."""
        plain = _plain(content)
        if plain is None:
            return f"{name}: tampered: not in its canonical form"
        at = link(content)
        if not self.named:
            begins = self._begins or (BEGINNING if at.number == 1 else plain["previous"])
            self.before = self.last = Link(at.number - 1, begins)
            self._about = _about(plain)
        broken = self._sequence(name, at.number, rest) or self._previous(name, at, plain)
        if not broken and _about(plain) != self._about and _formerly(plain) != self._about:
            broken = f"{name}: forged: it is about another table than the records before it"
        if not broken:
            self._about = _about(plain)
            self.last, self.named = at, name
        return broken

    def _sequence(self, name: str, number: int, rest: Iterable[tuple[str, bytes]]) -> str:
        wanted = self.last.number + 1
        if number > wanted:
            later = any((_plain(content) or {}).get("number") == wanted for _, content in rest)
            why = "re-ordered: it comes before" if later else "missing: there is no"
            return f"{name}: {why} record {wanted}"
        if number <= self.before.number:
            return f"{name}: re-ordered: record {number} comes after record {self.last.number}"
        return f"{name}: forked: there is another record {number}" if number < wanted else ""

    def _previous(self, name: str, at: Link, plain: Mapping[str, Any]) -> str:
        """The record before is to blame: nobody can make another one with the hash noted here."""
        if plain["previous"] == self.last.hash:
            return ""
        if not self.named:
            return f"{name}: tampered: it does not carry the hash that the chain begins with"
        return f"{self.named}: tampered: it is not what record {at.number} was chained to"


def _plain(content: bytes) -> dict[str, Any] | None:
    try:
        plain = json.loads(content)
        fine = isinstance(plain["number"], int) and isinstance(plain["previous"], str)
        return plain if fine and canonical(plain) == content else None
    except (ValueError, TypeError, KeyError):
        return None


def _formerly(plain: Mapping[str, Any]) -> object:
    """What the records before were about, as one says with which the source got another name."""
    return _about({**plain, "source": plain.get(RENAMED)})


def _about(plain: Mapping[str, Any]) -> object:
    return tuple(plain.get(name) for name in ("source", "schema", "table"))
