"""A table's log begun anew behind a damaged one, which stays where it is."""

import json
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deltalake import CommitProperties, DeltaTable, Schema, Transaction

from repl_pipelines.errors import SyncInProgress
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.commits import APPLICATION, lay_out
from repl_pipelines.lake.log import CALL, COMMIT, FIRST, Log
from repl_pipelines.lake.seal import seal
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.scratch import scratch_folder

# The journal may name versions whose commits are gone: no new one must take their numbers.
SKIPPED = 1000
_VERSION = re.compile(r"/_delta_log/(\d{20})\.")


def restart(
    log: Log, schema: Schema, files: Sequence[LakeFile], number: int, content: list[dict[str, Any]]
) -> None:
    """Commit `files` as the whole table, at a version of which no earlier one is needed.

    A Delta log may begin with a checkpoint. It is made last: until it is there, the table is as
    unreadable as before. Raises SyncInProgress if another restart took the version.
    """
    with scratch_folder() as folder, store_errors(f"Committing to the lake's {log.what}"):
        versions = [int(found[1]) for key in log.objects() if (found := _VERSION.search(key))]
        version = max(versions, default=0) + SKIPPED
        sealed = seal(files, version)
        metadata = {COMMIT: content, CALL: uuid.uuid4().hex, FIRST: True, **sealed}
        properties = CommitProperties(
            custom_metadata=metadata, app_transactions=[Transaction(APPLICATION, number)]
        )
        made = _made(log, folder, schema, files, properties)
        commit = (made / f"{0:020d}.json").read_bytes()
        if not log.store.put_new(f"{log.folder}/{version:020d}.json", commit):
            raise SyncInProgress(
                f"Another sync began the log of the lake's {log.what} anew.",
                "Nothing of this one was published; the next sync continues from the other's.",
            )
        checkpoint, hint = made / f"{0:020d}.checkpoint.parquet", made / "_last_checkpoint"
        hint.write_text(json.dumps({**json.loads(hint.read_text()), "version": version}))
        log.store.put_file(checkpoint, f"{log.folder}/{version:020d}.checkpoint.parquet")
        log.store.put_file(hint, f"{log.folder}/{hint.name}")


def _made(
    log: Log, folder: Path, schema: Schema, files: Sequence[LakeFile], properties: CommitProperties
) -> Path:
    """The log of such a table, with one commit and its checkpoint, on local disk."""
    lay_out(log, schema, files, properties, folder)
    DeltaTable(str(folder)).create_checkpoint()
    return folder / "_delta_log"
