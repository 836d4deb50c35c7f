"""Every error the engine raises, as one tree; each message says what, where and what to do.

ReplicationError
├── TransientError              the same call may succeed later: retried with back-off
│   ├── SourceUnavailable       the source cannot be reached, or dropped the connection
│   │   └── StatementTimeout    a statement took longer than the source's limit
│   ├── TableChanged            a table was altered, truncated or re-created while it was read
│   ├── StoreUnavailable        the object store failed, is slow, or refused for now
│   ├── ReplicaUnavailable      the replica is locked, full or unreachable
│   ├── ProofCutShort           a proof's time was over before it came to a table
│   └── SyncInProgress          another sync holds one of the tables
└── TerminalError               repeating changes nothing: somebody has to act
    ├── DeclarationError        the declaration is wrong: a name, a mode, a pattern, a collision
    │   ├── TableNotFound       a declared table does not exist in the source
    │   └── ColumnNotFound      a declared column does not exist in its table
    ├── GrantMissing            the role lacks a right the mode needs
    ├── ServerNotTrusted        TLS: a server that does not prove who it is, or does not speak it
    ├── KeyNotUnique            the key is not unique, or holds NULL
    ├── CursorUnusable          the cursor column's type cannot carry a horizon
    ├── ValueNotRepresentable   a value has no place in the column's lake type (policy `fail`)
    ├── ReplicationPaused       somebody has paused it, or moved its lake elsewhere
    ├── StoreRefused            bucket missing, access denied, or no conditional writes
    ├── ForeignReplica          the replica holds another replication's tables
    ├── ReplicaRefused          a constraint that somebody added refuses rows of the source
    ├── LakeDamaged             a file or commit the lake needs is missing or unreadable
    ├── HistoryGap              the lake cannot say what a table was at a moment
    ├── RepairRefused           a repair would change more of a table than it may
    ├── ErasureRefused          rows to be erased are still there, or would not be gone everywhere
    └── NotProven               a copy differs from its source before it was published
"""


class ReplicationError(Exception):
    """Base of all errors of the engine.

    `what` names the fault and the table, column and key it concerns (never a protected value),
    `remedy` the action that ends it, `lasting` what a record that is never altered may say of it:
    nothing of any row, not its key either.
    """

    def __init__(self, what: str, remedy: str = "", *, lasting: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what} {remedy}".strip())
        self.lasting = lasting or str(self)


class TransientError(ReplicationError):
    """The same call may succeed later."""


class SourceUnavailable(TransientError):
    """The source cannot be reached, or dropped the connection in the middle of a read."""


class StatementTimeout(SourceUnavailable):
    """A statement was cancelled because it took longer than `statement_timeout`."""


class TableChanged(TransientError):
    """A table was altered, truncated or re-created while it was read; nothing was published."""


class StoreUnavailable(TransientError):
    """The object store failed after the client's own retries."""


class ReplicaUnavailable(TransientError):
    """The replica is locked, full or unreachable; nothing of the batch was applied."""


class ProofCutShort(TransientError):
    """A proof's time was over before any row of a table was compared; the next begins with it."""


class SyncInProgress(TransientError):
    """Another sync holds one of the tables; it goes on, this one gives way."""


class TerminalError(ReplicationError):
    """Repeating the call changes nothing: somebody has to act."""


class DeclarationError(TerminalError):
    """The declaration cannot be carried out."""


class TableNotFound(DeclarationError):
    """A declared table does not exist in the source."""


class ColumnNotFound(DeclarationError):
    """A declared column does not exist in its table."""


class GrantMissing(TerminalError):
    """The role lacks a right; the remedy is the GRANT to run."""


class ServerNotTrusted(TerminalError):
    """TLS as the settings demand it did not come about; neither password nor data were sent."""


class KeyNotUnique(TerminalError):
    """The declared key is not unique, or holds NULL."""


class CursorUnusable(TerminalError):
    """The cursor column's type cannot carry a horizon."""


class ValueNotRepresentable(TerminalError):
    """A value has no place in the column's lake type and the column's policy is `fail`."""


class ReplicationPaused(TerminalError):
    """Somebody has paused the replication, or its lake has moved; nothing was published."""


class StoreRefused(TerminalError):
    """The bucket is missing, access is denied, or the store ignores conditional writes."""


class ForeignReplica(TerminalError):
    """The replica already holds tables of another replication."""


class ReplicaRefused(TerminalError):
    """A constraint that somebody added to a replica's table refuses rows that the source has."""


class LakeDamaged(TerminalError):
    """A file or commit that the lake needs is missing or unreadable."""


class HistoryGap(TerminalError):
    """The lake cannot say what a table was at the moment asked for."""


class RepairRefused(TerminalError):
    """A repair would change a larger share of a table than it may; nothing was changed."""


class ErasureRefused(TerminalError):
    """Rows that are to be erased are still in the source, or cannot be removed everywhere."""


class NotProven(TerminalError):
    """The rows to be published differ from the source's; nothing was published."""
