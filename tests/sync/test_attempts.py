"""What the newest records of proofs say of a table's copies: no part is green that is not known."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from repl_pipelines.proof.evidence import START, Told, link, record
from repl_pipelines.sync.attempts import CopyState, Records, attempts, copies_of

EQUAL, DIFFERENT, NOT_COMPARED = Told


def hour(number: int) -> datetime:
    return datetime(2026, 11, 23, number, tzinfo=UTC)


def proof(copy: str, told: Told, partition: str | None = None, **other: Any) -> dict[str, Any]:
    rows = {"unequal": 3} if told is DIFFERENT else {}
    plain = {"copy": copy, "partition": partition, "verdict": told}
    if told is NOT_COMPARED:
        return {**plain, "reason": "away", "error": "ReplicaUnavailable", **other}
    groups = 1 if told is DIFFERENT else 0
    told_of = {"reference": "source", "differing_rows": rows, "differing_groups": groups}
    return {**plain, **told_of, **other}


def chain(*hours: list[dict[str, Any]]) -> Records:
    """A record an hour, from 1 o'clock on."""
    made: list[tuple[str, bytes]] = []
    last = START
    for number, proofs in enumerate(hours, 1):
        plain: dict[str, Any] = {"at": hour(number).isoformat(), "proofs": proofs}
        for one in proofs:
            if "proven" in one:
                plain["coverage"] = {"proven": one.pop("proven")}
        content = record(plain, last)
        last = link(content)
        made.append((f"{number:010d}.json", content))
    return made


def share(number: int, told: Told, *proven: int | None) -> list[dict[str, Any]]:
    """A proof of a share at hour `number`; proven: when each of the table's shares was."""
    times = [["", hour(one).isoformat() if one else None] for one in proven]
    at = {"at": hour(number).isoformat()}
    return [proof("lake", told, cover={"buckets": [1], "of": 3}, position=at, proven=times)]


P, Q = "2026-11-01", "2026-11-02"
DIFFERS = CopyState(DIFFERENT, hour(2), rows=3, groups=1)
CASES: dict[str, tuple[Records, set[str | None], dict[str, CopyState]]] = {
    "never looked at": (chain(), set(), {"lake": CopyState(None)}),
    "the newest attempt counts": (
        chain([proof("lake", DIFFERENT)], [proof("lake", EQUAL)]),
        set(),
        {"lake": CopyState(EQUAL, hour(2))},
    ),
    "a copy that could not be compared is not what it was before": (
        chain([proof("lake", EQUAL), proof("pg", EQUAL)], [proof("pg", NOT_COMPARED)]),
        set(),
        {"lake": CopyState(EQUAL, hour(1)), "pg": CopyState(NOT_COMPARED, hour(2), reason="away")},
    ),
    "a difference outweighs what could not be compared": (
        chain([proof("lake", DIFFERENT, P)], [proof("lake", NOT_COMPARED, Q)]),
        {P, Q},
        {"lake": CopyState(DIFFERENT, hour(1), rows=3, groups=1)},
    ),
    "each partition by its own newest attempt": (
        chain([proof("lake", EQUAL, P), proof("lake", EQUAL, Q)], [proof("lake", DIFFERENT, Q)]),
        {P, Q},
        {"lake": DIFFERS},
    ),
    "as old as its oldest partition": (
        chain([proof("lake", EQUAL, P), proof("lake", EQUAL, Q)], [proof("lake", EQUAL, Q)]),
        {P, Q},
        {"lake": CopyState(EQUAL, hour(1))},
    ),
    "a partition that was never looked at": (
        chain([proof("lake", EQUAL, P)]),
        {P, Q},
        {"lake": CopyState(None)},
    ),
    "all partitions, when the copy as a whole could not be compared": (
        chain([proof("lake", EQUAL, P)], [proof("lake", NOT_COMPARED)]),
        {P},
        {"lake": CopyState(NOT_COMPARED, hour(2), reason="away")},
    ),
    "a stray partition that is gone": (
        chain([proof("lake", DIFFERENT, Q)], [proof("lake", EQUAL, P)]),
        {P},
        {"lake": CopyState(EQUAL, hour(2))},
    ),
    "a replica that is not kept any more": (
        chain([proof("lake", EQUAL), proof("old", DIFFERENT)], [proof("lake", EQUAL)]),
        set(),
        {"lake": CopyState(EQUAL, hour(2))},
    ),
    "as old as the share that was left longest": (
        chain(share(1, EQUAL, 1, None), share(2, EQUAL, 1, 2)),
        set(),
        {"lake": CopyState(EQUAL, hour(1))},
    ),
    "not proven before all shares are": (
        chain(share(1, EQUAL, 1, None)),
        set(),
        {"lake": CopyState(None)},
    ),
    "a difference in one share is not gone with the next share": (
        chain(share(1, EQUAL, 1, None), share(2, DIFFERENT, 1, 2), share(3, EQUAL, 3, 2)),
        set(),
        {"lake": DIFFERS},
    ),
    "but when that share was compared again": (
        chain(share(1, DIFFERENT, 1, None), share(2, EQUAL, 1, 2), share(3, EQUAL, 3, 2)),
        set(),
        {"lake": CopyState(EQUAL, hour(2))},
    ),
    "or all of the table": (
        chain(share(1, DIFFERENT, 1, None), [proof("lake", EQUAL)], share(3, EQUAL, 3, 2)),
        set(),
        {"lake": CopyState(EQUAL, hour(2))},
    ),
    "equal to another copy is not equal to the source": (
        chain([proof("lake", EQUAL)], [proof("lake", EQUAL, reference="pg")]),
        set(),
        {"lake": CopyState(EQUAL, hour(1))},
    ),
    "but different from another copy is not right": (
        chain([proof("lake", EQUAL)], [proof("lake", DIFFERENT, reference="pg")]),
        set(),
        {"lake": DIFFERS},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_copy_is_what_was_found_last_of_each_part(case: str) -> None:
    records, partitions, expected = CASES[case]
    assert copies_of(records, partitions, ["lake"]) == expected


def test_each_record_is_an_attempt() -> None:
    records = chain(
        [proof("lake", EQUAL), proof("pg", NOT_COMPARED)],
        [proof("lake", DIFFERENT), proof("pg", DIFFERENT)],
        [proof("lake", EQUAL, reference="pg")],  # between copies: no attempt against the source
    )
    found = [(one.number, one.at, one.told, one.rows) for one in attempts(records)]
    assert found == [(1, hour(1), NOT_COMPARED, 0), (2, hour(2), DIFFERENT, 6)]


def test_what_is_no_record_is_passed_over() -> None:
    [(name, good)] = chain([proof("lake", EQUAL)])
    junk = [(name, b""), (name, b"[]"), (name, json.dumps({"proofs": "?"}).encode()[:-3])]
    assert len(attempts([*junk, (name, good)])) == 1


def test_what_to_do_is_said_of_everything_that_is_not_green() -> None:
    assert CopyState(EQUAL, hour(1)).next_step() == ""
    assert "validate" in CopyState(None).next_step()
    assert "away" in CopyState(NOT_COMPARED, hour(1), reason="away").next_step()
    assert "differs in 3 rows: repair" in DIFFERS.next_step()
    assert CopyState(DIFFERENT, hour(1), rows=1).much == "1 row"
    assert CopyState(DIFFERENT, hour(1), groups=2).much == "2 groups of rows"
