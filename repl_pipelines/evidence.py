"""`python -m repl_pipelines.evidence`: verify records of proofs offline, export a span of them.

A place is a folder of records, a file of them (JSON lines), or s3://bucket/folder, where the AWS
environment says how to get there (AWS_ENDPOINT_URL and AWS_REGION too).
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import dropwhile, takewhile
from pathlib import Path

from repl_pipelines.errors import DeclarationError, ReplicationError
from repl_pipelines.lake.evidence import EvidenceChain
from repl_pipelines.lake.store import Store
from repl_pipelines.proof.evidence import Told, verify

Records = Iterator[tuple[str, bytes]]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 where all is as it should be, 1 where it is not."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "export":
            return _export(options.place, options.since, options.until)
        return _verify(options.place, options.begins, options.ends)
    except ReplicationError as error:
        print(error, file=sys.stderr)
        return 1


def _verify(place: str, begins: str | None, ends: str | None) -> int:
    chains = dict(_chains(place))
    if len(chains) > 1 and (begins or ends):
        raise DeclarationError("These are several chains.", "Name the folder of one table.")
    good = bool(chains)
    for name, records in chains.items():
        told = Counter[str]()
        found = verify(_counted(records, told), begins=begins, ends=ends)
        span = f"{name}: records {found.before.number + 1} to {found.last.number}"
        print(f"{span}, begins with {found.before.hash}, ends with {found.last.hash}")
        verdicts = ", ".join(f"{told[verdict]} {verdict}" for verdict in Told)
        print(f"BROKEN {found.broken}" if found.broken else f"unbroken: {verdicts}")
        good = good and not found.broken and found.last.number > 0
    if not chains:
        print(f"{place}: no records", file=sys.stderr)
    return 0 if good else 1


def _counted(records: Records, told: Counter[str]) -> Records:
    """The records, while the verdicts of those read are counted."""
    for name, content in records:
        with suppress(ValueError, TypeError, KeyError):  # what is wrong is told by `verify`
            told.update(str(proof["verdict"]) for proof in json.loads(content)["proofs"])
        yield name, content


def _export(place: str, since: datetime, until: datetime) -> int:
    """The records from the first one of the span to the one before the first after it."""
    chains = dict(_chains(place))
    if len(chains) != 1:
        raise DeclarationError(f"{place} holds {len(chains)} chains.", "Name one table's folder.")
    [records] = chains.values()
    begun = dropwhile(lambda one: _at(one[1]) < since, records)
    for _, content in takewhile(lambda one: _at(one[1]) < until, begun):
        sys.stdout.buffer.write(content + b"\n")
    sys.stdout.buffer.flush()
    return 0


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


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m repl_pipelines.evidence")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("verify", help="hold every record against the one before it")
    one.add_argument("place")
    one.add_argument("--begins", help="hash that the first record must carry")
    one.add_argument("--ends", help="hash that the last record must have")
    one = commands.add_parser("export", help="write the records of a span of time as JSON lines")
    one.add_argument("place")
    one.add_argument("--since", type=_moment, default=datetime.min.replace(tzinfo=UTC))
    one.add_argument("--until", type=_moment, default=datetime.max.replace(tzinfo=UTC))
    return parser


if __name__ == "__main__":
    sys.exit(main())
