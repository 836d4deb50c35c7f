"""What the records of proofs tell of one table: each attempt, and where its copies stand by now."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from repl_pipelines.proof.evidence import Told

Records = Sequence[tuple[str, bytes]]  # name and content, oldest first
Mention = tuple[Mapping[str, Any], Mapping[str, Any]]  # a record, and one proof in it
_WORST = (Told.DIFFERENT, Told.NOT_COMPARED, Told.EQUAL)


@dataclass(frozen=True)
class Attempt:
    """One record. told: the worst of what it tells; rows: that were found to differ."""

    number: int
    at: datetime
    told: Told
    rows: int


@dataclass(frozen=True)
class CopyState:
    """One copy, by the newest attempt at each of its parts (partitions, shares, or all of it).

    told:   the worst of these; None while a part was never compared
    at:     when: of the oldest one where all are equal, of the newest of the worst otherwise
    rows:   that differ, as far as they were counted; groups: of rows that do
    reason: why it could not be compared
    """

    told: Told | None
    at: datetime | None = None
    rows: int = 0
    groups: int = 0
    reason: str = ""

    @property
    def much(self) -> str:
        """How much differs: its rows, or where they were not counted their groups."""
        if self.rows:
            return f"{self.rows:,} row{'s' * (self.rows != 1)}"
        return f"{self.groups:,} group{'s' * (self.groups != 1)} of rows"

    def next_step(self) -> str:
        """What somebody should do about it, '' if nothing."""
        if self.told is None:
            return "Not proven yet, or not all of it: validate it."
        if self.told is Told.NOT_COMPARED:
            return f"Could not be compared. {self.reason}"
        if self.told is Told.DIFFERENT:
            return f"It differs in {self.much}: repair it, and find out who wrote there."
        return ""


def attempts(records: Records) -> tuple[Attempt, ...]:
    """What each record comes to, oldest first."""
    found: list[Attempt] = []
    for record in _read(records):
        proofs = list(_proofs(record))
        if proofs:
            told = {Told(proof["verdict"]) for proof in proofs}
            worst = next(one for one in _WORST if one in told)
            rows = sum(_rows(proof) for proof in proofs)
            found.append(Attempt(record["number"], _at(record), worst, rows))
    return tuple(found)


def copies_of(
    records: Records, partitions: Collection[str | None], expected: Collection[str]
) -> Mapping[str, CopyState]:
    """Each copy by name: those expected, and those that the newest record names.

    partitions: that the table has; none: it is compared as a whole
    """
    found: dict[str, dict[str | None, list[Mention]]] = {name: {} for name in expected}
    parts = set(partitions) or {None}
    for age, record in enumerate(reversed(list(_read(records)))):
        for proof in _proofs(record):
            name, key = proof["copy"], proof.get("partition")
            if age == 0:
                found.setdefault(name, {})
            if name not in found or (age and key is not None and key not in parts):
                continue
            for part in parts if key is None else {key}:
                found[name].setdefault(part, []).append((record, proof))
    return {name: _copy(own, parts) for name, own in found.items()}


def _copy(found: Mapping[str | None, list[Mention]], parts: Collection[str | None]) -> CopyState:
    """found: what was told of each part, the newest first."""
    standing = [one for told in found.values() for one in _standing(told)]
    verdicts = {Told(proof["verdict"]) for _, proof in standing}
    worst = next((one for one in _WORST if one in verdicts), None)
    if worst is None or (worst is Told.EQUAL and not found.keys() >= set(parts)):
        return CopyState(None)
    own = [(record, proof) for record, proof in standing if proof["verdict"] == worst]
    if worst is Told.EQUAL:
        since = [_since(record, proof) for record, proof in own]
        known = [time for time in since if time]
        return CopyState(worst, min(known)) if len(known) == len(since) else CopyState(None)
    return CopyState(
        worst,
        max(_at(record) for record, _ in own),
        rows=sum(_rows(proof) for _, proof in own),
        groups=sum(proof.get("differing_groups", 0) for _, proof in own),
        reason=next((proof["reason"] for _, proof in own if "reason" in proof), ""),
    )


def _standing(told: Sequence[Mention]) -> Iterator[Mention]:
    """The newest; if it was of a share of the rows, also the differences that it does not end.

    They stand until all of the rows have been compared since.
    """
    newest, proof = told[0]
    yield newest, proof
    if "cover" not in proof:
        return
    since = _since(newest, proof)
    for record, older in told[1:]:
        differs = older["verdict"] == Told.DIFFERENT
        if differs and (not since or since <= datetime.fromisoformat(older["position"]["at"])):
            yield record, older
        if older["verdict"] != Told.NOT_COMPARED and "cover" not in older:
            return


def _since(record: Mapping[str, Any], proof: Mapping[str, Any]) -> datetime | None:
    """When the row that was left longest was compared; None while some never were."""
    if "cover" not in proof:
        return _at(record)
    times = [at for _, at in record["coverage"]["proven"]]
    return None if None in times else min(map(datetime.fromisoformat, times))


def _read(records: Records) -> Iterator[Mapping[str, Any]]:
    for _, content in records:
        with suppress(ValueError):  # `verify` tells of it
            record = json.loads(content)
            if isinstance(record, dict) and "proofs" in record:
                yield record


def _proofs(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Those against the source; against another copy only where they found a difference."""
    for proof in record["proofs"]:
        against_source = proof.get("reference", "source") == "source"
        if against_source or proof["verdict"] == Told.DIFFERENT:
            yield proof


def _rows(proof: Mapping[str, Any]) -> int:
    return sum(proof.get("differing_rows", {}).values())


def _at(record: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(record["at"])
