"""Authorities that sign certificates for loopback servers, and servers that show each of them."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from repl_pipelines.demo.postgres_binaries import server_account
from repl_pipelines.demo.processes import LOOPBACK
from repl_pipelines.demo.s3_server import Certificate

Key = ec.EllipticCurvePrivateKey
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Signed:
    certificate: x509.Certificate
    key: Key


class Authority:
    """Signs certificates; all files lie in `directory`, which servers must be able to enter."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._own = _signed(name, None)
        self.file = directory / f"{name}.crt"
        self.file.write_bytes(self._own.certificate.public_bytes(Encoding.PEM))

    def certificate(
        self, name: str, *, host: str = LOOPBACK, ends: timedelta = DAY, ours: bool = False
    ) -> Certificate:
        """For a server at `host`, or a client `name`. ours: not the servers' account reads it."""
        made = _signed(name, self._own, host, ends)
        file, key = (self._directory / f"{name}.{kind}" for kind in ("crt", "key"))
        file.write_bytes(made.certificate.public_bytes(Encoding.PEM))
        key.touch(mode=0o600)
        key.write_bytes(
            made.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        )
        if (account := server_account()) and not ours:
            os.chown(key, account.uid, account.gid)
        return Certificate(file, key, self.file)


def _signed(name: str, issuer: Signed | None, host: str = "", ends: timedelta = DAY) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 10 * DAY)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if host:
        names = x509.SubjectAlternativeName([_name(host)])
        made = made.add_extension(names, critical=False)
    return Signed(made.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
