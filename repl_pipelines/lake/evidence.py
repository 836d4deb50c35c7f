"""Where the records of proofs lie: one object each, written once, one chain for each table."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from repl_pipelines.errors import LakeDamaged, StoreUnavailable
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.proof.evidence import START, Link, link, record, renamed

TURNS = 40  # racing proofs of one table take turns; each lost race means that another was recorded


class EvidenceChain:
    """One table's records, `<number>.json` below `location`. Keeps no state."""

    def __init__(self, store: Store, location: str) -> None:
        self._store = store
        self._location = store.key(location)
        self.uri = store.uri(self._location)

    def append(self, content: Mapping[str, Any]) -> Link:
        """Record `content` and the time as the chain's next; a racer takes the number after."""
        for _ in range(TURNS):
            last, before = self._last()
            at = {"at": datetime.now(UTC).isoformat()}
            made = record({**content, **at, **renamed(content, before)}, last)
            key = f"{self._location}/{last.number + 1:010d}.json"
            with store_errors(f"Recording a proof in {self.uri}"):
                written = self._store.put_new(key, made)
            # Refused may be our own: the client repeats a write whose answer was lost.
            if written or self._store.read(key) == made:
                return link(made)
        raise StoreUnavailable(
            f"Other proofs took the next number in {self.uri} {TURNS} times in a row.",
            "Prove the table again: this proof was not recorded.",
        )

    def records(self) -> Iterator[tuple[str, bytes]]:
        """(name, content) of all records, in order of their names."""
        for key in self._keys():
            yield key.rsplit("/", 1)[1], self._store.read(key) or b""

    def newest(self) -> Iterator[bytes]:
        """The content of all records, the last one first; one read for each."""
        for key in reversed(self._keys()):
            yield self._store.read(key) or b""

    def addresses(self, count: int) -> list[str]:
        """Addresses of the last `count` records, in order of their names."""
        return [self._store.uri(key) for key in self._keys()[-count:]]

    def _keys(self) -> list[str]:
        return self._store.keys(f"{self._location}/")

    def _last(self) -> tuple[Link, Mapping[str, Any]]:
        """Its place, and what it says."""
        keys = self._keys()
        if not keys:
            return START, {}
        try:
            content = self._store.read(keys[-1]) or b""
            return link(content), json.loads(content)
        except (ValueError, TypeError, KeyError) as error:
            raise LakeDamaged(
                f"The last record of the proofs in {self.uri} is not readable ({keys[-1]}).",
                "Find out who wrote there. To go on, move the table's records to another folder: a"
                " new chain begins.",
            ) from error
