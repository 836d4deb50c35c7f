"""`repl-pipelines evidence`: verify records of proofs offline, export a span of them."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import click

from repl_pipelines.commands.command import Command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.moment import TIME
from repl_pipelines.commands.output import Output
from repl_pipelines.errors import DeclarationError
from repl_pipelines.lake.evidence import EvidenceChain
from repl_pipelines.lake.store import Store
from repl_pipelines.proof.evidence import Told, Verified
from repl_pipelines.proof.evidence import verify as held

Records = Iterator[tuple[str, bytes]]


@click.group()
def evidence() -> None:
    """Verify records of proofs offline, or export a span of them.

    PLACE is a folder of records, a file of them (JSON lines), or s3://bucket/folder, where the AWS
    environment says how to get there (AWS_ENDPOINT_URL and AWS_REGION too). The records of crm's
    table accounts are at s3://<bucket>/<prefix>/crm/_evidence/public/accounts.
    """


@evidence.command(cls=Command)
@click.pass_obj
@click.argument("place")
@click.option("--begins", metavar="HASH", help="What the first record must carry.")
@click.option("--ends", metavar="HASH", help="What the last record must have.")
def verify(output: Output, place: str, begins: str | None, ends: str | None) -> Exit:
    """Hold every record against the one before it.

    Tells the hashes with which each chain begins and ends, and how many comparisons its records
    tell of, by verdict. Ends with 1 if a record is broken, or there is none.

    \b
    Examples:
      repl-pipelines evidence verify s3://my-bucket/lake/crm/_evidence/public/accounts
      aws s3 sync s3://my-bucket/lake/crm/_evidence evidence
      repl-pipelines evidence verify evidence
    """  # noqa: D301 - \b marks lines that click must not join
    chains = dict(_chains(place))
    if len(chains) > 1 and (begins or ends):
        raise DeclarationError("These are several chains.", "Name the folder of one table.")
    told = {name: Counter[str]() for name in chains}
    found = {
        name: held(_counted(records, told[name]), begins=begins, ends=ends)
        for name, records in chains.items()
    }
    document = [_chain_document(name, one, told[name]) for name, one in found.items()]
    output.show({"chains": document}, lambda: _drawn(place, found, told))
    good = bool(found) and all(not one.broken and one.last.number > 0 for one in found.values())
    return Exit.DONE if good else Exit.FOUND


@evidence.command(cls=Command, prints_json=False)
@click.pass_obj
@click.argument("place")
@click.option("--since", type=TIME, help="Records from this time on.")
@click.option("--until", type=TIME, help="Records before this time.")
def export(_output: Output, place: str, since: datetime | None, until: datetime | None) -> Exit:
    """Write the records of a span of time as JSON lines.

    \b
    Example:
      repl-pipelines evidence export evidence/public/accounts \\
        --since 2026-10-01 --until 2027-01-01 > accounts-2026-q4.jsonl
    """  # noqa: D301
    chains = dict(_chains(place))
    if len(chains) != 1:
        raise DeclarationError(f"{place} holds {len(chains)} chains.", "Name one table's folder.")
    [records] = chains.values()
    first = since or datetime.min.replace(tzinfo=UTC)
    end = until or datetime.max.replace(tzinfo=UTC)
    begun = dropwhile(lambda one: _at(one[1]) < first, records)
    for _, content in takewhile(lambda one: _at(one[1]) < end, begun):
        click.echo(content)
    return Exit.DONE


def _counted(records: Records, told: Counter[str]) -> Records:
    """The records, while the verdicts of those read are counted."""
    for name, content in records:
        with suppress(ValueError, TypeError, KeyError):  # what is wrong is told by `verify`
            told.update(str(proof["verdict"]) for proof in json.loads(content).get("proofs", ()))
        yield name, content


def _chain_document(name: str, found: Verified, told: Counter[str]) -> dict[str, Any]:
    return {
        "chain": name,
        "first": found.before.number + 1,
        "last": found.last.number,
        "begins": found.before.hash,
        "ends": found.last.hash,
        "broken": found.broken,
        "verdicts": {verdict: told[verdict] for verdict in Told},
    }


def _drawn(
    place: str, chains: Mapping[str, Verified], told: Mapping[str, Counter[str]]
) -> Iterator[str]:
    for name, found in chains.items():
        span = f"{name}: records {found.before.number + 1} to {found.last.number}"
        yield f"{span}, begins with {found.before.hash}, ends with {found.last.hash}"
        verdicts = ", ".join(f"{told[name][verdict]} {verdict}" for verdict in Told)
        yield f"BROKEN {found.broken}" if found.broken else f"unbroken: {verdicts}"
    if not chains:
        yield f"{place}: no records"


def _chains(place: str) -> Iterator[tuple[str, Records]]:
    if place.startswith("s3://"):
        store, folder = Store.at(place)
        yield place, EvidenceChain(store, folder).records()
    elif Path(place).is_dir():
        for folder in sorted({file.parent for file in Path(place).rglob("*.json")}):
            files = sorted(folder.glob("*.json"))
            yield str(folder), ((file.name, file.read_bytes()) for file in files)
    elif Path(place).is_file():
        yield place, _lines(Path(place))
    else:
        raise DeclarationError(f"There is no file or folder {place}.")


def _lines(file: Path) -> Records:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            yield f"line {number}", line.removesuffix(b"\n")


def _at(content: bytes) -> datetime:
    return datetime.fromisoformat(json.loads(content)["at"])
