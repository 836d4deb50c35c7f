"""A replication at rest: who paused it, when and why, or where its lake has gone.

It is said in the newest commit of the journal, and by every commit of maintenance after it. So a
sync that was under way meets it where it wants to publish: of a pause and a publication one is
first, whoever was late sees the other.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from repl_pipelines.errors import ReplicationPaused
from repl_pipelines.lake.log import PAUSED


@dataclass(frozen=True)
class Pause:
    """at: ISO 8601, UTC; moved: where the lake has gone, '' for a pause that can be ended here."""

    by: str
    at: str
    why: str
    moved: str = ""

    @classmethod
    def of(cls, info: Mapping[str, Any] | None) -> "Pause | None":
        """From the commitInfo of the journal's newest version."""
        found = (info or {}).get(PAUSED)
        return cls(**found) if found else None

    def plain(self) -> Mapping[str, Any]:
        return {PAUSED: asdict(self)}

    def refusal(self, where: str) -> ReplicationPaused:
        """The error of a sync that meets it. where: the journal's address."""
        said = f"by {self.by} since {self.at}" + (f": {self.why}" if self.why else "")
        if self.moved:
            return ReplicationPaused(
                f"The lake of {where} has been moved to {self.moved}, {said}.",
                "Name the new place in the replication's resources and YAML.",
            )
        return ReplicationPaused(
            f"The replication with the journal {where} is paused {said}.",
            "`repl-pipelines resume` ends it.",
        )
