"""Positions of MariaDB's binary log as sets of transactions, not as texts.

A position such as `0-1-1042,7-2-15` names the last transaction of each replication domain, in any
order; it stands for all transactions up to these. MariaDB documentation, "Global Transaction ID".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Gtids(Protocol):
    """Any set of transactions, of any server of the family, and one of its own kind of GTIDs."""

    def holds(self, gtid: Any) -> bool: ...
    def includes(self, other: Any) -> bool: ...
    def with_next(self, gtid: Any) -> "Gtids": ...


@dataclass(frozen=True)
class Gtid:
    """One transaction: where it was written first, and its number in the domain."""

    domain: int
    server: int
    number: int

    def __str__(self) -> str:
        return f"{self.domain}-{self.server}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> "Gtid":
        domain, server, number = text.strip().split("-")
        return cls(int(domain), int(server), int(number))


@dataclass(frozen=True)
class GtidSet:
    """All transactions of some domains up to the last one of each; equal as sets are."""

    last: Mapping[int, Gtid] = field(default_factory=dict[int, Gtid])

    @classmethod
    def parse(cls, text: str) -> "GtidSet":
        """From what the server says (`@@gtid_binlog_pos`). Raises ValueError."""
        gtids = [Gtid.parse(part) for part in text.split(",") if part.strip()]
        return cls({gtid.domain: gtid for gtid in gtids})

    def holds(self, gtid: Gtid) -> bool:
        """Whether a transaction is one of them."""
        last = self.last.get(gtid.domain)
        return last is not None and gtid.number <= last.number

    def includes(self, other: "GtidSet") -> bool:
        """Whether all of another set is in this one."""
        return all(self.holds(gtid) for gtid in other.last.values())

    def with_next(self, gtid: Gtid) -> "GtidSet":
        """With the next transaction of its domain."""
        return GtidSet({**self.last, gtid.domain: gtid})

    def __str__(self) -> str:
        return ",".join(str(self.last[domain]) for domain in sorted(self.last))
