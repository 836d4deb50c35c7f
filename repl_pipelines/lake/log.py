"""One Delta table's log: its files at a version, and the commits of ours in it."""

import json
import math
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from deltalake import CommitProperties, DeltaTable, Schema, TableFeatures, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake.columns import NTZ, PARTITION
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import store_errors

APPLICATION = "repl_pipelines"
COMMIT = "repl_pipelines"  # commit metadata: what this commit published
CALL = "repl_pipelines_call"  # commit metadata: which call made it
CARRIED = "repl_pipelines_head"  # commit metadata of maintenance: the newest commit before it
# The log outlives the history that may be asked for (see `FoldPolicy.history`).
CONFIGURATION: dict[str, str | None] = {
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 400 days",
}


@dataclass(frozen=True)
class LakeFile:
    """A Parquet file of a table: path relative to the table, and what is known without reading."""

    path: str
    size: int
    rows: int
    layer: str
    partition: str = ""


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
            except TableNotFoundError:
                return None
            except DeltaError as error:
                if version is not None and "version" in str(error).lower():
                    raise LakeDamaged(
                        f"The lake's {self.what} has no version {version} any more ({error}).",
                        "Read a newer version; a replica that needs this one is filled anew.",
                    ) from error
                raise

    def files(self, handle: DeltaTable) -> list[LakeFile]:
        """The files that make up the table at the handle's version."""
        actions = handle.get_add_actions()
        columns = [actions.column(n).to_pylist() for n in ("path", "size_bytes", "num_records")]
        parts: Iterable[dict[str, Any]] = (
            actions.column("partition").to_pylist()
            if self.partition_by
            else [{} for _ in columns[0]]
        )
        return [
            LakeFile(
                path, size, rows or 0, part.get("_rp_layer") or "", part.get("_rp_partition") or ""
            )
            for path, size, rows, part in zip(*columns, parts, strict=True)
        ]

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
                if version == 0:
                    return
            elif CARRIED in info and carried is None:
                carried = Commit(**info[CARRIED])
        if carried is not None:
            yield carried

    def info(self, version: int) -> dict[str, Any] | None:
        """The commitInfo of a version, None if its log file is gone."""
        content = self.store.read(f"{self.location}/_delta_log/{version:020d}.json")
        if content is None:
            return None
        for line in content.splitlines():
            action = json.loads(line)
            if "commitInfo" in action:
                info: dict[str, Any] = action["commitInfo"]
                return info
        return {}

    def newest(self, handle: DeltaTable) -> Commit | None:
        return next(self.commits(handle.version()), None)

    def publish(
        self,
        handle: DeltaTable | None,
        schema: Schema,
        *,
        added: Sequence[AddAction],
        removed: Sequence[LakeFile] | None,
        number: int,
        content: list[dict[str, Any]],
    ) -> Commit | None:
        """Commit files and what they mean as number `number`; None if another commit won.

        removed: None stands for all files, and is the only way to bring a new schema
        """
        call = uuid.uuid4().hex
        properties = _next_version(
            {COMMIT: content, CALL: call}, [Transaction(APPLICATION, number)]
        )
        with store_errors(f"Committing to the lake's {self.what}"):
            try:
                if handle is None:
                    self._create(schema, added, properties)
                else:
                    if removed is None:
                        self._allow(handle, schema)
                    actions: list[AddAction | RemoveAction] = [
                        *added,
                        *(self.remove(file) for file in removed or ()),
                    ]
                    mode = "overwrite" if removed is None else "append"
                    handle.create_write_transaction(
                        actions, mode, schema, self.partition_by, commit_properties=properties
                    )
            except CommitFailedError:
                pass  # lost, or won with the answer lost on the way: the log knows
        return self._made_by(call, -1 if handle is None else handle.version())

    def _create(
        self, schema: Schema, added: Sequence[AddAction], properties: CommitProperties
    ) -> None:
        try:
            create_table_with_add_actions(
                self.uri,
                schema,
                list(added),
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
        self, handle: DeltaTable, schema: Schema, actions: Sequence[AddAction | RemoveAction]
    ) -> int | None:
        """Commit other files for the same rows; the version, None if another commit won."""
        call = uuid.uuid4().hex
        base = handle.version()
        properties = _next_version({**self._carried(handle), CALL: call})
        # A conflict is no error here, as in `publish`.
        with store_errors(f"Rewriting the lake's {self.what}"), suppress(CommitFailedError):
            handle.create_write_transaction(
                list(actions), "append", schema, self.partition_by, commit_properties=properties
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
        return {CARRIED: vars(newest)} if newest else {}

    def add(self, file: LakeFile, *, data_change: bool = True) -> AddAction:
        # Only the row count: truncated or rounded bounds of other columns could mislead readers.
        stats = json.dumps({"numRecords": file.rows})
        return AddAction(
            file.path, file.size, self._values(file), _now(), data_change=data_change, stats=stats
        )

    def remove(self, file: LakeFile, *, data_change: bool = True) -> RemoveAction:
        return RemoveAction(
            path=file.path,
            deletion_timestamp=_now(),
            data_change=data_change,
            partition_values=self._values(file),
            size=file.size,
        )

    def _values(self, file: LakeFile) -> dict[str, str | None]:
        values = {"_rp_layer": file.layer, "_rp_partition": file.partition or None}
        return values if self.partition_by else {}


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


def _now() -> int:
    return int(time.time() * 1000)
