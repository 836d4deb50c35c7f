"""What libpq says when TLS does not come about, as an error of ours."""

import re

from psycopg.conninfo import conninfo_to_dict

from repl_pipelines.errors import ServerNotTrusted

_SETTINGS = ("host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey")
# libpq's words, and what to do about them.
_REMEDIES = {
    r"certificate verify failed": "It is not signed by an authority in the file `sslrootcert`, or"
    " it has expired: name the right file there, or renew the server's certificate.",
    r"does not match host name": "Connect by a name that the certificate has (`host`), or have a"
    " certificate made for this one. `sslmode: verify-ca` compares no names.",
    r"does not support SSL": "Set `ssl = on` and a certificate on the server, or"
    " `sslmode: disable` where the way to it is private.",
    r"root certificate file|root certificate store": "Correct `sslrootcert`: a readable file of"
    " authorities, in PEM.",
    r"client certificate|certificate authentication|certificate required|alert unknown ca"
    r"|private key file|certificate file": "Correct `sslcert` and `sslkey` (readable by us alone):"
    " the server asks for a certificate that one of its own authorities has signed.",
    r"SSL error|SSL SYSCALL": "Check that the server speaks TLS at this port.",
}


def distrust(who: str, dsn: str, text: str) -> ServerNotTrusted | None:
    """The error if `text` of a failed connection speaks of TLS. who: source or replica."""
    remedy = next((r for words, r in _REMEDIES.items() if re.search(words, text)), None)
    if remedy is None:
        return None
    given = conninfo_to_dict(dsn)
    where = " ".join(f"{name}={given[name]}" for name in _SETTINGS if given.get(name))
    return ServerNotTrusted(f"{who} ({where}) is not to be trusted: {text}.", remedy)
