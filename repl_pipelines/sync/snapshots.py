"""Claims and snapshots that outlive their sync, for a proof that asks for their rows."""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TypeVar

from repl_pipelines.sources.contract import Snapshot

Opened = TypeVar("Opened")


class Hold:
    """Keeps the snapshot that a sync opened until `stack` is closed, its claim until `let_go`."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._claims = stack.enter_context(ExitStack())
        self.held: Snapshot | None = None
        self.with_snapshot = True  # false: only the claim is kept

    def opened(
        self, snapshot: AbstractContextManager[Snapshot]
    ) -> AbstractContextManager[Snapshot]:
        """The snapshot for the sync to use; it is not closed with the sync."""
        if not self.with_snapshot:
            return snapshot
        self.held = self._stack.enter_context(snapshot)
        return nullcontext(self.held)

    def claimed(self, claim: AbstractContextManager[Opened]) -> AbstractContextManager[Opened]:
        """The claim for the sync to use; no other sync moves its tables before `let_go`."""
        return nullcontext(self._claims.enter_context(claim))

    def let_go(self) -> None:
        """Others may sync the tables from here on."""
        self._claims.close()
