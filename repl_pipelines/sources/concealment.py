"""What leaves the source in the place of a protected value: its keyed hash, its cipher, or a mask.

A hash is HMAC-SHA-256 (RFC 2104) of the value's text in UTF-8, in hexadecimal digits. The text is
the one that the source's own output function writes, so equal values of two tables, and of two
types that write them alike, stay equal. NULL stays NULL. The source computes it in SQL; what comes
from its log is hashed here, before anything of it is written.

A cipher is the text encrypted by AES-256 (CBC, PKCS #7), after the initialisation vector by which:
the first 16 bytes of its HMAC-SHA-256 under a key of its own. So equal values are equal ciphers,
and whoever decrypts one sees whether it was altered. The construction is SIV (Rogaway and Shrimpton
2006; RFC 5297 has it with other primitives), of what PostgreSQL's pgcrypto offers.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from repl_pipelines.errors import DeclarationError
from repl_pipelines.model.column import MASKED, Column, Policy
from repl_pipelines.model.table import TableName

DIGITS = 64  # of a hash
BLOCK = 16  # bytes of AES
_BLOCK = 64  # bytes that SHA-256 takes at once
_LEAST = 16  # bytes of a key; shorter ones can be guessed, and then all values be tried


@dataclass(frozen=True)
class HashKey:
    """A secret for HMAC-SHA-256; never shown. id: tells one from another."""

    secret: bytes = field(repr=False)

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
        return self.mac(text.encode()).hex()

    def mac(self, content: bytes) -> bytes:
        return hmac.digest(self.secret, content, "sha256")


@dataclass(frozen=True)
class CipherKey:
    """The two keys of policy `encrypt`. vector: makes initialisation vectors; aes: encrypts."""

    vector: HashKey
    aes: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: HashKey) -> "CipherKey":
        """Derived from the one that is configured."""
        return cls(
            HashKey(secret.mac(b"repl_pipelines: vector")), secret.mac(b"repl_pipelines: aes")
        )

    def cipher(self, text: str) -> str:
        """What stands for a value with this text: vector and cipher, in hexadecimal."""
        plain = text.encode()
        vector = self.vector.mac(plain)[:BLOCK]
        padding = PKCS7(BLOCK * 8).padder()
        encryptor = Cipher(AES256(self.aes), CBC(vector)).encryptor()
        padded = padding.update(plain) + padding.finalize()
        return (vector + encryptor.update(padded) + encryptor.finalize()).hex()


@dataclass(frozen=True)
class Secrets:
    """The keys of a source; None: it has none."""

    hash: HashKey | None = None
    encrypt: CipherKey | None = None

    @classmethod
    def of(cls, source: str, hash_key: str = "", encrypt_key: str = "") -> "Secrets":
        """Raises DeclarationError for one that can be guessed, or for one that has both tasks."""
        if hash_key and hash_key == encrypt_key:
            raise DeclarationError(
                f"Source {source!r}: its hash_key is its encrypt_key, too.",
                "Whoever may decrypt could then try values for every hash: make another one.",
            )
        cipher = _key(source, "encrypt_key", encrypt_key)
        return cls(_key(source, "hash_key", hash_key), CipherKey.of(cipher) if cipher else None)


def _key(source: str, name: str, secret: str) -> HashKey | None:
    """None for an empty text."""
    if 0 < len(secret.encode()) < _LEAST:
        raise DeclarationError(
            f"Source {source!r}: its {name} is shorter than {_LEAST} bytes.",
            "Make one with `openssl rand -hex 32` and keep it as a secret.",
        )
    return HashKey(secret.encode()) if secret else None


def concealed(column: Column, texts: Iterable[str | None], secrets: Secrets) -> list[str | None]:
    """What stands for values of a protected column, given as the source writes them."""
    if column.policy is Policy.MASK:
        return [None if text is None else MASKED for text in texts]
    if column.policy is Policy.ENCRYPT:
        assert secrets.encrypt, "a column is encrypted, and there is no key"
        return [None if text is None else secrets.encrypt.cipher(text) for text in texts]
    assert secrets.hash, "a column is hashed, and there is no key"
    return [None if text is None else secrets.hash.digest(text) for text in texts]


def key_id(table: TableName, column: str, policy: Policy, secrets: Secrets) -> str:
    """Which key a column's values are under; '' for one without. Raises DeclarationError."""
    if policy is Policy.HASH:
        key, name = secrets.hash, "hash_key"
    elif policy is Policy.ENCRYPT:
        key, name = secrets.encrypt and secrets.encrypt.vector, "encrypt_key"
    else:
        return ""
    if key is None:
        raise DeclarationError(
            f"{table}: column {column!r} has the policy `{policy}`, and its source has no {name}.",
            f"Set `{name}` of the source's resource to an EnvVar; `openssl rand -hex 32` makes a"
            " good key. Or choose `mask` or `drop`.",
        )
    return key.id
