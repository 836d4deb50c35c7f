"""A chain of records shows what was done to it; what it cannot show is tested, too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from repl_pipelines.commands.exits import Exit
from repl_pipelines.proof.evidence import BEGINNING, START, Link, canonical, link, record, verify
from tests.commands.calls import call

Chain = list[bytes]


def chain(length: int, after: Link = START, **other: object) -> Chain:
    """Records of one proof a day, from 1 January on."""
    made: Chain = []
    for day in range(1, length + 1):
        content = {
            "table": "orders",
            "at": f"2026-01-0{day}T12:00:00+00:00",
            "proofs": [{"copy": "lake", "figures": {"source": "3:00", "copy": "3:00"}}],
        }
        made.append(record({**content, **other}, after))
        after = link(made[-1])
    return made


def altered(content: bytes, **other: object) -> bytes:
    return canonical({**json.loads(content), **other})


def broken(records: Chain, **known: str) -> str:
    return verify(((f"r{n}", one) for n, one in enumerate(records, 1)), **known).broken


def rechained(records: Chain, start: int) -> Chain:
    """As somebody would do who may write everywhere: all hashes from `start` on made right."""
    made = records[:start]
    for one in records[start:]:
        made.append(altered(one, previous=link(made[-1]).hash, number=len(made) + 1))
    return made


GOOD = chain(5)
FIGURES = [{"copy": "lake", "figures": {"source": "3:00", "copy": "2:00"}}]
DAMAGE: dict[str, tuple[Callable[[Chain], Chain], str]] = {
    "a figure altered": (
        lambda c: [*c[:2], altered(c[2], proofs=FIGURES), *c[3:]],
        "r3: tampered: it is not what record 4 was chained to",
    ),
    "a first figure altered": (
        lambda c: [altered(c[0], proofs=FIGURES), *c[1:]],
        "r1: tampered: it is not what record 2 was chained to",
    ),
    "a blank added": (
        lambda c: [*c[:2], c[2].replace(b":", b": ", 1), *c[3:]],
        "r3: tampered: not in its canonical form",
    ),
    "no JSON": (lambda c: [*c[:2], b"{", *c[3:]], "r3: tampered: not in its canonical form"),
    "emptied": (lambda c: [*c[:2], b"", *c[3:]], "r3: tampered: not in its canonical form"),
    "removed in the middle": (
        lambda c: [*c[:2], *c[3:]],
        "r3: missing: there is no record 3",
    ),
    "removed, and renumbered": (
        lambda c: [*c[:2], *(altered(one, number=n) for n, one in enumerate(c[3:], 3))],
        "r2: tampered: it is not what record 3 was chained to",
    ),
    "two exchanged": (
        lambda c: [c[0], c[2], c[1], *c[3:]],
        "r2: re-ordered: it comes before record 2",
    ),
    "the first two exchanged": (
        lambda c: [c[1], c[0], *c[2:]],
        "r2: re-ordered: record 1 comes after record 2",
    ),
    "a record twice": (lambda c: [*c[:3], c[2], *c[3:]], "r4: forked: there is another record 3"),
    "a forged record beside one": (
        lambda c: [*c[:3], altered(c[2], proofs=FIGURES), *c[3:]],
        "r4: forked: there is another record 3",
    ),
    "a forged record put in": (
        lambda c: [*c[:3], record({"table": "orders"}, link(c[2])), *c[3:]],
        "r5: forked: there is another record 4",
    ),
    "a record of another table": (
        lambda c: rechained([*c[:3], altered(c[3], table="visits"), *c[4:]], 3),
        "r4: forged: it is about another table than the records before it",
    ),
    "a forged beginning": (
        lambda c: [altered(c[0], previous="f" * 64), *c[1:]],
        "r1: tampered: it does not carry the hash that the chain begins with",
    ),
}


def test_a_chain_as_it_was_made_is_unbroken() -> None:
    found = verify((str(n), one) for n, one in enumerate(GOOD))
    assert (found.before, found.last, found.broken) == (START, link(GOOD[-1]), "")
    assert json.loads(GOOD[0])["previous"] == BEGINNING


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_the_first_broken_record_named(damage: str) -> None:
    make, expected = DAMAGE[damage]
    assert broken(make(GOOD)) == expected


# The records alone cannot show these: somebody who may write can make a chain that is right in
# itself. The hash that was noted elsewhere (the validation's metadata) shows them.
ENDS: dict[str, Callable[[Chain], Chain]] = {
    "the last one removed": lambda c: c[:-1],
    "the last one altered": lambda c: [*c[:-1], altered(c[-1], proofs=FIGURES)],
    "a forged one at the end": lambda c: [*c, record({"table": "orders"}, link(c[-1]))],
    "all made anew from one on": lambda c: rechained([*c[:2], altered(c[2], proofs=[]), *c[3:]], 2),
    "all removed": lambda c: [],
}


@pytest.mark.parametrize("damage", ENDS)
def test_what_only_a_noted_hash_can_show(damage: str) -> None:
    records = ENDS[damage](GOOD)
    assert not broken(records)
    assert "was to end with another record" in broken(records, ends=link(GOOD[-1]).hash)
    assert not broken(GOOD, ends=link(GOOD[-1]).hash)


def test_a_part_verifies_by_the_hash_it_begins_with() -> None:
    part = GOOD[2:4]
    assert not broken(part)
    assert not broken(part, begins=link(GOOD[1]).hash, ends=link(GOOD[3]).hash)
    assert "r1: tampered" in broken(part, begins=link(GOOD[0]).hash)


def test_the_command_verifies_a_folder_of_chains(
    tmp_path: Path,
) -> None:
    for table in ("orders", "visits"):
        write(tmp_path / "public" / table, chain(3, table=table))
    assert call("evidence", "verify", tmp_path).out.count("unbroken") == 2
    (tmp_path / "public" / "visits" / "0000000002.json").unlink()
    found = call("evidence", "verify", tmp_path, code=Exit.FOUND)
    told = found.out.splitlines()
    assert told[1] == "unbroken: 0 equal, 0 different, 0 not compared"
    assert told[3] == "BROKEN 0000000003.json: missing: there is no record 2"
    document = call("evidence", "verify", tmp_path, "--json", code=Exit.FOUND).document
    assert [one["broken"] for one in document["chains"]] == ["", told[3].removeprefix("BROKEN ")]


def test_the_command_exports_a_span_that_verifies_by_itself(
    tmp_path: Path,
) -> None:
    write(tmp_path / "orders", GOOD)
    span = ["--since", "2026-01-02", "--until", "2026-01-05T00:00:00Z"]
    exported = call("evidence", "export", tmp_path / "orders", *span)
    file = tmp_path / "quarter.jsonl"
    file.write_text(exported.out)
    assert file.read_bytes().splitlines() == GOOD[1:4]
    begins, ends = link(GOOD[0]).hash, link(GOOD[3]).hash
    assert begins in call("evidence", "verify", file, "--begins", begins, "--ends", ends).out
    file.write_bytes(file.read_bytes().replace(b"3:00", b"2:00", 1))
    found = call("evidence", "verify", file, "--begins", begins, code=Exit.FOUND)
    assert "BROKEN line 1: tampered" in found.out


@pytest.mark.parametrize("content", [None, b""])
def test_the_command_takes_nothing_for_no_proof(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "0000000001.json").write_bytes(content)
    call("evidence", "verify", tmp_path, code=Exit.FOUND)
    call("evidence", "verify", tmp_path / "nowhere", code=Exit.WRONG)


# As repl_pipelines 0.1.0 wrote it before what could not be compared was recorded, too.
FORMER = (
    b'{"at":"2026-11-22T09:00:00+00:00","number":1,"previous":"' + BEGINNING.encode() + b'",'
    b'"proofs":[{"copy":"lake","differing_groups":0,"differing_rows":{},"figures":{"copy":"3:00",'
    b'"reference":"3:00"},"partition":null,"position":{"at":"2026-11-22T09:00:00+00:00","order":9,'
    b'"token":{"lsn":"0/9"}},"reference":"source","sync":1,"verdict":"equal"}],"run":"r",'
    b'"schema":"public","software":"repl_pipelines 0.1.0","source":"shop","table":"orders"}'
)


def test_former_records_verify_and_are_gone_on_from(
    tmp_path: Path,
) -> None:
    gap = {"copy": "pg", "verdict": "not compared", "error": "ReplicaUnavailable", "reason": "..."}
    about = {"source": "shop", "schema": "public", "table": "orders", "proofs": [gap]}
    later = record(about, link(FORMER))
    write(tmp_path / "orders", [FORMER, later])
    told = call("evidence", "verify", tmp_path, "--ends", link(later).hash).out
    assert "unbroken: 1 equal, 0 different, 1 not compared" in told
    write(tmp_path / "damaged", [FORMER.replace(b"3:00", b"2:00"), later])
    call("evidence", "verify", tmp_path / "damaged", code=Exit.FOUND)


def write(folder: Path, records: Chain) -> None:
    folder.mkdir(parents=True)
    for number, one in enumerate(records, 1):
        (folder / f"{number:010d}.json").write_bytes(one)
