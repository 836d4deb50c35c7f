"""One Delta table's log: its files at a version, and the commits of ours in it."""

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from deltalake import CommitProperties, DeltaTable, Schema, TableFeatures, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import Field
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake.actions import LakeFile, add, listed, remove
from repl_pipelines.lake.columns import NTZ, PARTITION
from repl_pipelines.lake.seal import broken, seal
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import log_damage, short, store_errors

APPLICATION = "repl_pipelines"
COMMIT = "repl_pipelines"  # commit metadata: what this commit published
CALL = "repl_pipelines_call"  # commit metadata: which call made it
CARRIED = "repl_pipelines_head"  # commit metadata of maintenance: the newest commit before it
FIRST = "repl_pipelines_first"  # commit metadata: nothing before this commit is needed
# The log outlives the history that may be asked for (see `FoldPolicy.history`).
CONFIGURATION: dict[str, str | None] = {
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 400 days",
}


@dataclass(frozen=True)
class Commit:
    """A commit of ours: the Delta version it made, and what it published."""

    version: int
    call: str
    content: list[dict[str, Any]]


class Log:
    """Reads and extends the Delta log below one location. Keeps no state: every open is fresh."""

    def __init__(self, store: Store, location: str, what: str, partitioned: bool = True) -> None:
        self.store = store
        self.location = store.key(location)
        self.folder = f"{self.location}/_delta_log"
        self.uri = store.uri(self.location)
        self.what = what
        self.partition_by = list(PARTITION) if partitioned else []

    def open(self, version: int | None = None) -> DeltaTable | None:
        """The table at a version (None: the newest), None if there is no such table."""
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
            if self.partition_by
            else "Move it away: the next sync publishes anew what the tables' own logs hold. Then"
            " remove the replicas, to have them filled anew.",
        )

    def files(self, handle: DeltaTable) -> list[LakeFile]:
        """The files that make up the table at the handle's version. Raises LakeDamaged."""
        with store_errors(f"Reading the log of the lake's {self.what}"):
            try:
                files = listed(handle, partitioned=bool(self.partition_by))
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
            if COMMIT in info:
                yield Commit(version, info.get(CALL, ""), info[COMMIT])
                carried = None
                if version == 0 or FIRST in info:
                    return
            elif CARRIED in info and carried is None:
                carried = Commit(**info[CARRIED])
        if carried is not None:
            yield carried

    def info(self, version: int) -> dict[str, Any] | None:
        """The commitInfo of a version, None if its log file is gone."""
        content = self.store.read(f"{self.folder}/{version:020d}.json")
        if content is None:
            return None
        try:
            actions = (json.loads(line) for line in content.splitlines())
            return next((one["commitInfo"] for one in actions if "commitInfo" in one), {})
        except ValueError as error:
            raise self.damaged(f"the commit of version {version} cannot be read") from error

    def newest(self, handle: DeltaTable) -> Commit | None:
        return next(self.commits(handle.version()), None)

    def publish(
        self,
        handle: DeltaTable | None,
        schema: Schema,
        *,
        added: Sequence[LakeFile],
        removed: Sequence[LakeFile] | None,
        number: int,
        content: list[dict[str, Any]],
    ) -> Commit | None:
        """Commit files and what they mean as number `number`; None if another commit won.

        removed: None stands for all files, and is the only way to bring a new schema
        """
        call = uuid.uuid4().hex
        kept = [] if handle is None or removed is None else self._without(handle, removed)
        # A conflict is no error: lost, or won with the answer lost on the way, the log knows.
        with store_errors(f"Committing to the lake's {self.what}"), suppress(CommitFailedError):
            if handle is not None and removed is None:
                self._allow(handle, schema)
            version = 0 if handle is None else handle.version() + 1
            stamps = {COMMIT: content, CALL: call, **seal([*kept, *added], version)}
            properties = _next_version(stamps, [Transaction(APPLICATION, number)])
            if handle is None:
                self._create(schema, added, properties)
            else:
                handle.create_write_transaction(
                    self._actions(added, removed or ()),
                    "overwrite" if removed is None else "append",
                    schema,
                    self.partition_by,
                    commit_properties=properties,
                )
        return self._made_by(call, -1 if handle is None else handle.version())

    def _without(self, handle: DeltaTable, removed: Sequence[LakeFile]) -> list[LakeFile]:
        gone = {file.path for file in removed}
        return [file for file in self.files(handle) if file.path not in gone]

    def _actions(
        self, added: Sequence[LakeFile], removed: Sequence[LakeFile], *, data_change: bool = True
    ) -> list[AddAction | RemoveAction]:
        partitioned = bool(self.partition_by)
        return [
            *(add(file, partitioned=partitioned, data_change=data_change) for file in added),
            *(remove(file, partitioned=partitioned, data_change=data_change) for file in removed),
        ]

    def _create(
        self, schema: Schema, added: Sequence[LakeFile], properties: CommitProperties
    ) -> None:
        try:
            create_table_with_add_actions(
                self.uri,
                schema,
                [add(file, partitioned=bool(self.partition_by)) for file in added],
                mode="error",
                partition_by=self.partition_by,
                name=self.what,
                configuration=CONFIGURATION,
                storage_options=self.store.storage_options,
                commit_properties=properties,
            )
        except DeltaError as error:
            if self.open() is None:
                raise
            raise CommitFailedError(str(error)) from error

    def _allow(self, handle: DeltaTable, schema: Schema) -> None:
        """Enable the feature a new schema needs; deltalake would commit an unreadable table."""
        needs = any(field.type.to_json() == f'"{NTZ}"' for field in schema.fields)
        has = "timestampNtz" in (handle.protocol().writer_features or [])
        if needs and not has:
            handle.alter.add_feature(
                TableFeatures.TimestampWithoutTimezone,
                allow_protocol_versions_increase=True,
                commit_properties=_next_version(self._carried(handle)),
            )

    def widen(self, handle: DeltaTable, columns: Sequence[Field]) -> None:
        """Add columns that an earlier version did not know; whoever loses a race looks again."""
        properties = _next_version(self._carried(handle))
        with store_errors(f"Adding columns to the lake's {self.what}"), suppress(CommitFailedError):
            handle.alter.add_columns(list(columns), commit_properties=properties)

    def _made_by(self, call: str, base: int) -> Commit | None:
        """The commit with this call, if it is in the log after version `base`."""
        handle = self.open()
        if handle is None:
            return None
        for commit in self.commits(handle.version()):
            if commit.call == call:
                return commit
            if commit.version <= base:
                break
        return None

    def rewrite(
        self,
        handle: DeltaTable,
        schema: Schema,
        added: Sequence[LakeFile],
        removed: Sequence[LakeFile],
        *,
        data_change: bool = False,
    ) -> int | None:
        """Commit other files for the same rows; the version, None if another commit won.

        data_change: some of the rows are left out
        """
        call = uuid.uuid4().hex
        base = handle.version()
        files = [*self._without(handle, removed), *added]
        properties = _next_version({**self._carried(handle), CALL: call, **seal(files, base + 1)})
        actions = self._actions(added, removed, data_change=data_change)
        # A conflict is no error here, as in `publish`.
        with store_errors(f"Rewriting the lake's {self.what}"), suppress(CommitFailedError):
            handle.create_write_transaction(
                actions, "append", schema, self.partition_by, commit_properties=properties
            )
        fresh = self.open()
        assert fresh is not None
        versions = range(fresh.version(), base, -1)
        return next((v for v in versions if (self.info(v) or {}).get(CALL) == call), None)

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

    def vacuum(self, retention: timedelta, keep: Sequence[int]) -> int:
        """Delete files, and debris of crashes, that no version younger than `retention` needs."""
        handle = self.open()
        if handle is None:
            return 0
        if max(keep, default=0) > handle.version():
            raise self.damaged(self.behind(handle, max(keep)))
        kept = {self.same_rows(version, handle.version()) for version in keep}
        with store_errors(f"Cleaning up the lake's {self.what}"):
            deleted = handle.vacuum(
                retention_hours=math.ceil(retention / timedelta(hours=1)),
                dry_run=False,
                enforce_retention_duration=False,
                commit_properties=CommitProperties(custom_metadata=self._carried(handle)),
                full=True,
                keep_versions=sorted(kept) or None,
            )
        return len(deleted)

    def _carried(self, handle: DeltaTable) -> dict[str, Any]:
        """Metadata for a commit that changes no row: our newest commit, carried forward.

        It must be found even when the log before has been cleaned up.
        """
        newest = self.newest(handle)
        same = seal(self.files(handle))
        return {CARRIED: vars(newest), **same} if newest else same


def _next_version(
    metadata: dict[str, Any], transactions: Sequence[Transaction] = ()
) -> CommitProperties:
    """Properties of a commit that becomes the version after the one it was made from, or fails.

    deltalake (1.6.6) would try again at a later version: always when it creates a table and
    another has made version 0, and else where it sees no conflict (a file that a rewrite removed).
    What we commit (a number, the files removed) was right for one version only.
    """
    return CommitProperties(
        custom_metadata=metadata, app_transactions=list(transactions), max_commit_retries=0
    )
