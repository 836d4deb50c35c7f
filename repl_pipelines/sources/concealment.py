"""What leaves the source in the place of a protected value: its keyed hash, or a mask.

A hash is HMAC-SHA-256 (RFC 2104) of the value's text in UTF-8, in hexadecimal digits. The text is
the one that the source's own output function writes, so equal values of two tables, and of two
types that write them alike, stay equal. NULL stays NULL. The source computes it in SQL; what comes
from its log is hashed here, before anything of it is written.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from repl_pipelines.errors import DeclarationError
from repl_pipelines.model.column import MASKED, Column, Policy
from repl_pipelines.model.table import TableName

DIGITS = 64  # of a hash
_BLOCK = 64  # bytes that SHA-256 takes at once
_LEAST = 16  # bytes of a key; shorter ones can be guessed, and then all values be tried


@dataclass(frozen=True)
class HashKey:
    """The secret of policy `hash`; never shown. id: tells one from another."""

    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, source: str, secret: str) -> "HashKey | None":
        """None for an empty text. Raises DeclarationError for one that can be guessed."""
        if 0 < len(secret.encode()) < _LEAST:
            raise DeclarationError(
                f"Source {source!r}: its hash_key is shorter than {_LEAST} bytes.",
                "Make one with `openssl rand -hex 32` and keep it as a secret.",
            )
        return cls(secret.encode()) if secret else None

    @property
    def id(self) -> str:
        return self.digest("repl_pipelines: which key is this")[:16]

    def pads(self) -> tuple[str, str]:
        """Inner and outer pad in hexadecimal: all that SQL needs to know of the key."""
        key = self.secret if len(self.secret) <= _BLOCK else hashlib.sha256(self.secret).digest()
        block = key.ljust(_BLOCK, b"\0")
        return bytes(b ^ 0x36 for b in block).hex(), bytes(b ^ 0x5C for b in block).hex()

    def digest(self, text: str) -> str:
        """What stands for a value with this text."""
        return hmac.digest(self.secret, text.encode(), "sha256").hex()


def concealed(column: Column, texts: Iterable[str | None], key: HashKey | None) -> list[str | None]:
    """What stands for values of a protected column, given as the source writes them."""
    if column.policy is Policy.MASK:
        return [None if text is None else MASKED for text in texts]
    assert key, "a column is hashed, and there is no key"
    return [None if text is None else key.digest(text) for text in texts]


def key_id(table: TableName, column: str, policy: Policy, key: HashKey | None) -> str:
    """Which key hashes a column; '' for one that is not hashed. Raises DeclarationError."""
    if policy is not Policy.HASH:
        return ""
    if key is None:
        raise DeclarationError(
            f"{table}: column {column!r} has the policy `hash`, and its source has no hash_key.",
            "Set `hash_key` of the source's resource to an EnvVar; `openssl rand -hex 32` makes a"
            " good key. Or choose `mask` or `drop`.",
        )
    return key.id
