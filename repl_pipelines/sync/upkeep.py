"""What keeps a lake in shape without an operator: folding changes, removing what nobody reads."""

from collections.abc import Mapping, Sequence

from repl_pipelines.errors import ReplicationError, TerminalError
from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.entry import Action, Entry
from repl_pipelines.model.table import Table, TableName

VACUUM_EVERY = 20  # commits of a table; listing its files costs a request for each thousand


def upkeep(
    lake: Lake, policy: FoldPolicy, tables: Sequence[Table], entries: Sequence[Entry]
) -> Mapping[TableName, ReplicationError]:
    """Tend the tables that this sync has written to; what went wrong, by table.

    Nothing here touches what a reader or a replica may still need: pinned versions are kept, and
    files stay for the history that the policy asks for.
    """
    failed: dict[TableName, ReplicationError] = {}
    written = {e.table: e for e in entries if e.action is not Action.UNCHANGED}
    for table in tables:
        if table.name not in written:
            continue
        try:
            _tend(lake, policy, table, written[table.name])
        except ReplicationError as error:
            failed[table.name] = error
        except Exception as error:  # noqa: BLE001 - the sync itself is published
            failed[table.name] = _unexpected(table, error)
    return failed


def _tend(lake: Lake, policy: FoldPolicy, table: Table, entry: Entry) -> None:
    copy = lake.table(table.name)
    if table.key and entry.action is Action.CHANGES:
        copy.fold(table, policy=policy)
    if entry.batch % VACUUM_EVERY == 0:
        heads = lake.journal.heads()
        pinned = {e.version for (name, _), e in heads.items() if name == table.name}
        copy.vacuum(retention=policy.history, keep=sorted(pinned))
        lake.journal.vacuum()


def _unexpected(table: Table, error: Exception) -> TerminalError:
    failure = TerminalError(
        f"{table.name}: the sync is published, but upkeep failed: {type(error).__name__}:"
        f" {str(error)[:500]}",
        "It is tried again after the next change. Please report it.",
    )
    failure.__cause__ = error
    return failure
