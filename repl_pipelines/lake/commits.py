"""What extends a Delta table's log: each commit is for one version, and lands once or not at all.

Every one is sealed, and one that changes no row carries forward what our newest commit says.
"""

import math
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    TableFeatures,
    Transaction,
)
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.schema import Field
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from repl_pipelines.lake.actions import LakeFile, add, remove
from repl_pipelines.lake.columns import NTZ
from repl_pipelines.lake.log import CALL, CARRIED, COMMIT, PAUSED, Commit, Log
from repl_pipelines.lake.seal import VERSION, seal
from repl_pipelines.lake.store_errors import store_errors

APPLICATION = "repl_pipelines"
# Commits between clean-ups of the log, each of which lists all of it.
CLEAN_EVERY = 20
# The log outlives the history that may be asked for (see `FoldPolicy.history`).
CONFIGURATION: dict[str, str | None] = {
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 400 days",
}


def publish(
    log: Log,
    handle: DeltaTable | None,
    schema: Schema,
    *,
    added: Sequence[LakeFile],
    removed: Sequence[LakeFile] | None,
    number: int,
    content: list[dict[str, Any]],
) -> Commit | None:
    """Publish files and what they mean as number `number`; None if another commit won.

    removed: None stands for all files, and is the only way to bring a new schema
    """
    call = uuid.uuid4().hex
    kept = [] if handle is None or removed is None else _without(log, handle, removed)
    version = 0
    # A conflict is no error: lost, or won with the answer lost on the way, the log knows.
    with store_errors(f"Committing to the lake's {log.what}"), suppress(CommitFailedError):
        if handle is not None:
            if removed is None:
                _allow(log, handle, schema)
            version = handle.version() + 1
        stamps = {COMMIT: content, CALL: call, **seal([*kept, *added], version)}
        properties = _next_version(stamps, [Transaction(APPLICATION, number)])
        if handle is None:
            _create(log, schema, added, properties)
        else:
            mode = "overwrite" if removed is None else "append"
            _write(log, handle, schema, _actions(log, added, removed or ()), properties, mode=mode)
    return Commit(version, call, content) if _made_by(log, call, version) else None


def lay_out(
    log: Log,
    schema: Schema,
    files: Sequence[LakeFile],
    properties: CommitProperties,
    folder: Path | None = None,
) -> None:
    """Make the log's table of these files, as its version 0; with `folder` there, on local disk."""
    create_table_with_add_actions(
        str(folder) if folder else log.uri,
        schema,
        [add(file, partitioned=log.partitioned) for file in files],
        mode="error",
        partition_by=log.partition_by,
        name=log.what,
        configuration=CONFIGURATION,
        storage_options=None if folder else log.store.storage_options,
        commit_properties=properties,
    )


def rewrite(
    log: Log,
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
    version = handle.version() + 1
    sealed = seal([*_without(log, handle, removed), *added], version)
    properties = _next_version({**_carried(log, handle), CALL: call, **sealed})
    actions = _actions(log, added, removed, data_change=data_change)
    # A conflict is no error here, as in `publish`.
    with store_errors(f"Rewriting the lake's {log.what}"), suppress(CommitFailedError):
        _write(log, handle, schema, actions, properties)
    return version if _made_by(log, call, version) else None


def state(log: Log, handle: DeltaTable, words: Mapping[str, Any]) -> bool:
    """Commit nothing but `words` about the table; False if another commit won."""
    call = uuid.uuid4().hex
    version = handle.version() + 1
    properties = _next_version({**_carried(log, handle), CALL: call, VERSION: version, **words})
    with store_errors(f"Writing to the log of the lake's {log.what}"), suppress(CommitFailedError):
        _write(log, handle, handle.schema(), [], properties)
    return _made_by(log, call, version)


def start(log: Log, schema: Schema, words: Mapping[str, Any]) -> None:
    """Make the table without a file, saying `words`; whoever loses a race looks again."""
    properties = _next_version({CALL: uuid.uuid4().hex, **seal([], 0), **words})
    with store_errors(f"Beginning the lake's {log.what}"), suppress(CommitFailedError):
        _create(log, schema, [], properties)


def widen(log: Log, handle: DeltaTable, columns: Sequence[Field]) -> None:
    """Add columns that an earlier version did not know; whoever loses a race looks again."""
    properties = _next_version(_carried(log, handle))
    with store_errors(f"Adding columns to the lake's {log.what}"), suppress(CommitFailedError):
        handle.alter.add_columns(list(columns), commit_properties=properties)


def vacuum(log: Log, retention: timedelta, keep: Sequence[int]) -> int:
    """Delete files, and debris of crashes, that no version younger than `retention` needs."""
    handle = log.open()
    if handle is None:
        return 0
    if max(keep, default=0) > handle.version():
        raise log.damaged(log.behind(handle, max(keep)))
    kept = {log.same_rows(version, handle.version()) for version in keep}
    with store_errors(f"Cleaning up the lake's {log.what}"):
        deleted = handle.vacuum(
            retention_hours=math.ceil(retention / timedelta(hours=1)),
            dry_run=False,
            enforce_retention_duration=False,
            commit_properties=CommitProperties(custom_metadata=_carried(log, handle)),
            full=True,
            keep_versions=sorted(kept) or None,
        )
    return len(deleted)


def _create(
    log: Log, schema: Schema, added: Sequence[LakeFile], properties: CommitProperties
) -> None:
    try:
        lay_out(log, schema, added, properties)
    except DeltaError as error:
        if log.open() is None:
            raise
        raise CommitFailedError(str(error)) from error


def _made_by(log: Log, call: str, version: int) -> bool:
    """Whether it was this call that made the version."""
    return (log.info(version) or {}).get(CALL) == call


def _without(log: Log, handle: DeltaTable, removed: Sequence[LakeFile]) -> list[LakeFile]:
    gone = {file.path for file in removed}
    return [file for file in log.files(handle) if file.path not in gone]


def _actions(
    log: Log, added: Sequence[LakeFile], removed: Sequence[LakeFile], *, data_change: bool = True
) -> list[AddAction | RemoveAction]:
    how = {"partitioned": log.partitioned, "data_change": data_change}
    return [*(add(file, **how) for file in added), *(remove(file, **how) for file in removed)]


def _allow(log: Log, handle: DeltaTable, schema: Schema) -> None:
    """Enable the feature a new schema needs; deltalake would commit an unreadable table."""
    needs = any(field.type.to_json() == f'"{NTZ}"' for field in schema.fields)
    has = "timestampNtz" in (handle.protocol().writer_features or [])
    if needs and not has:
        handle.alter.add_feature(
            TableFeatures.TimestampWithoutTimezone,
            allow_protocol_versions_increase=True,
            commit_properties=_next_version(_carried(log, handle)),
        )


def _carried(log: Log, handle: DeltaTable) -> dict[str, Any]:
    """Metadata for a commit that changes no row: our newest commit, carried forward.

    It must be found even when the log before has been cleaned up.
    """
    newest = log.newest(handle)
    same = seal(log.files(handle))
    if paused := (log.info(handle.version()) or {}).get(PAUSED):
        same[PAUSED] = paused
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


def _write(
    log: Log,
    handle: DeltaTable,
    schema: Schema,
    actions: list[AddAction | RemoveAction],
    properties: CommitProperties,
    *,
    mode: str = "append",
) -> None:
    clean = (handle.version() + 1) % CLEAN_EVERY == 0
    handle.create_write_transaction(
        actions,
        mode,
        schema,
        log.partition_by,
        commit_properties=properties,
        post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=clean),
    )
