"""Snapshots that outlive their sync, for a proof that may ask for their rows."""

from contextlib import AbstractContextManager, ExitStack, nullcontext

from repl_pipelines.sources.contract import Snapshot


class Hold:
    """Keeps the snapshot that a sync opened until `stack` is closed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.held: Snapshot | None = None

    def opened(
        self, snapshot: AbstractContextManager[Snapshot]
    ) -> AbstractContextManager[Snapshot]:
        """The snapshot for the sync to use; it is not closed with the sync."""
        self.held = self._stack.enter_context(snapshot)
        return nullcontext(self.held)
