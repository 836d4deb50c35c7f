"""One Delta table's log: its files at a version, and the commits of ours in it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake.actions import LakeFile, listed
from repl_pipelines.lake.columns import PARTITION
from repl_pipelines.lake.seal import broken
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import log_damage, short, store_errors

COMMIT = "repl_pipelines"  # commit metadata: what this commit published
CALL = "repl_pipelines_call"  # commit metadata: which call made it
CARRIED = "repl_pipelines_head"  # commit metadata of maintenance: the newest commit before it
PAUSED = "repl_pipelines_paused"  # commit metadata of the journal: nothing is published after it
FIRST = "repl_pipelines_first"  # commit metadata: nothing before this commit is needed


@dataclass(frozen=True)
class Commit:
    """A commit of ours: the Delta version it made, and what it published."""

    version: int
    call: str
    content: list[dict[str, Any]]

    @classmethod
    def of(cls, version: int, info: Mapping[str, Any]) -> "Commit | None":
        """From the version's commitInfo; None if it is of no commit of ours."""
        return cls(version, info.get(CALL, ""), info[COMMIT]) if COMMIT in info else None


class Log:
    """Reads the Delta log below one location. Keeps no more than the commits since the last open.

    Threads may share it: a commit never changes.
    """

    def __init__(self, store: Store, location: str, what: str, partitioned: bool = True) -> None:
        self.store = store
        self.location = store.key(location)
        self.folder = f"{self.location}/_delta_log"
        self.uri = store.uri(self.location)
        self.what = what
        self.partitioned = partitioned
        self.partition_by = list(PARTITION) if partitioned else []
        self._read: dict[int, dict[str, Any]] = {}

    def open(self, version: int | None = None) -> DeltaTable | None:
        """The table at a version (None: the newest), None if there is no such table."""
        self._read.clear()  # somebody may have damaged them since
        with store_errors(f"Opening the lake's {self.what}"):
            try:
                return DeltaTable(
                    self.uri, version=version, storage_options=self.store.storage_options
                )
            except TableNotFoundError as error:
                if version is None:
                    return None
                raise self._no_version(version, error) from error
            except DeltaError as error:
                if version is not None and "version" in str(error).lower():
                    raise self._no_version(version, error) from error
                if wrong := log_damage(error):
                    raise self.damaged(wrong) from error
                raise

    def _no_version(self, version: int, error: DeltaError) -> LakeDamaged:
        return LakeDamaged(
            f"The lake's {self.what} has no version {version} any more ({short(error)}).",
            "Read a newer version; a replica that needs this one is filled anew.",
        )

    def damaged(self, wrong: str) -> LakeDamaged:
        """The error for a log that does not say what was committed."""
        return LakeDamaged(
            f"The log of the lake's {self.what} at {self.uri} is damaged: {wrong}.",
            "Repair the table: it is copied again from its source, and its log goes on from there."
            if self.partitioned
            else "Move it away: the next sync publishes anew what the tables' own logs hold. Then"
            " remove the replicas, to have them filled anew.",
        )

    def files(self, handle: DeltaTable) -> list[LakeFile]:
        """The files that make up the table at the handle's version. Raises LakeDamaged."""
        with store_errors(f"Reading the log of the lake's {self.what}"):
            try:
                files = listed(handle, partitioned=self.partitioned)
            except DeltaError as error:
                if wrong := log_damage(error):
                    raise self.damaged(wrong) from error
                raise
        version = handle.version()
        if wrong := broken(self.info(version), files, version):
            raise self.damaged(wrong)
        return files

    def behind(self, handle: DeltaTable, version: int) -> str:
        """What is wrong with a log that does not reach up to a version that was published."""
        return f"it ends at version {handle.version()}, and version {version} was published"

    def objects(self) -> list[str]:
        """The keys of all that the log consists of."""
        return self.store.keys(f"{self.folder}/")

    def commits(self, newest: int) -> Iterator[Commit]:
        """Our commits from version `newest` backwards.

        Where the log has been cleaned up, the newest is still found in a later maintenance commit.
        """
        carried: Commit | None = None
        for version in range(newest, -1, -1):
            info = self.info(version)
            if info is None:
                break
            if commit := Commit.of(version, info):
                yield commit
                carried = None
                if version == 0 or FIRST in info:
                    return
            elif CARRIED in info and carried is None:
                carried = Commit(**info[CARRIED])
        if carried is not None:
            yield carried

    def info(self, version: int) -> dict[str, Any] | None:
        """The commitInfo of a version, None if its log file is gone."""
        if (known := self._read.get(version)) is not None:
            return known
        content = self.store.read(f"{self.folder}/{version:020d}.json")
        if content is None:
            return None
        try:
            actions = (json.loads(line) for line in content.splitlines())
            info = next((one["commitInfo"] for one in actions if "commitInfo" in one), {})
        except ValueError as error:
            raise self.damaged(f"the commit of version {version} cannot be read") from error
        return self._read.setdefault(version, info)

    def newest(self, handle: DeltaTable) -> Commit | None:
        return next(self.commits(handle.version()), None)

    def discard(self, files: Iterable[LakeFile]) -> None:
        """Delete uploaded files that no commit names."""
        self.store.delete(f"{self.location}/{file.path}" for file in files)

    def same_rows(self, version: int, newest: int) -> int:
        """The last version with the rows of `version`: those of maintenance that follow it."""
        while version < newest:
            info = self.info(version + 1)
            if info is None or COMMIT in info:
                break
            version += 1
        return version
