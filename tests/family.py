"""One spelling of test statements for MariaDB and MySQL."""

from __future__ import annotations

import re

from repl_pipelines.sources.mariadb.connection import Address

_OTHERWISE = {
    "show master status": "show binary log status",
    "reset master": "reset binary logs and gtids",
}
_RESERVED = re.compile(r"\b(?<=table )empty\b")
# MariaDB's tables of numbers.
_NUMBERS = re.compile(r"\bseq_(\d+)_to_(\d+)\b")


def spelled(address: Address, statement: str) -> str:
    """A statement as the server of this address takes it."""
    if address.dialect.kind != "mysql":
        return statement
    statement = _OTHERWISE.get(statement, statement)
    return _NUMBERS.sub(_counted, _RESERVED.sub('"empty"', statement))


def _counted(match: re.Match[str]) -> str:
    first, last = map(int, match.groups())
    return (
        f"(select n + {first - 1} as seq from json_table(concat('[0', repeat(',0', {last - first}),"
        " ']'), '$[*]' columns (n for ordinality)) as numbered) as counted"
    )
