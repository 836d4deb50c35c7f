"""What of the object store a lake depends on; a probe is written, and removed again."""

import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.model.diagnosis import Diagnosis, advice, clock, examined, fault, well


def diagnose(lake: Lake) -> list[Diagnosis]:
    """A look at the store, and at the lake's journal; raises nothing."""
    store = lake.store
    found = examined("store", lambda: _store(store))
    if any(one.fix for one in found):
        return found
    return [
        *found,
        *examined("bucket", lambda: _bucket(store, f"{store.key(lake.source)}/")),
        *examined("journal", lambda: _journal(lake)),
    ]


def _store(store: Store) -> Iterator[Diagnosis]:
    store.probe()
    where = store.endpoint_url or "AWS"
    yield well("store", f"bucket {store.bucket} at {where}: conditional writes are honoured")
    address = urlsplit(store.endpoint_url or "https:")
    if address.scheme == "http" and address.hostname not in ("127.0.0.1", "localhost", "::1"):
        yield advice("store", f"{where} is spoken to in the clear.", "Use an https endpoint.")
    before = time.time()
    with store_errors(f"Asking {store.bucket} for the time"):
        answer = store.client().list_objects_v2(Bucket=store.bucket, MaxKeys=1)
    ours = (before + time.time()) / 2
    told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if told:  # in whole seconds
        yield clock(parsedate_to_datetime(told).timestamp() + 0.5 - ours)


def _bucket(store: Store, folder: str) -> Iterator[Diagnosis]:
    versioning = _asked(store.client().get_bucket_versioning, store)
    if versioning is None:
        yield well("versioning", "not told by the store")
    elif versioning.get("Status") == "Enabled":
        yield advice(
            "versioning",
            "The bucket keeps every file that vacuum deletes.",
            "Have a lifecycle rule expire noncurrent versions (NoncurrentVersionExpiration).",
        )
    else:
        yield well("versioning", "off: what vacuum deletes is gone")
    lifecycle = _asked(store.client().get_bucket_lifecycle_configuration, store)
    rules = [r for r in (lifecycle or {}).get("Rules", ()) if r.get("Status") == "Enabled"]
    expiring = [r for r in rules if "Expiration" in r and _touches(r, folder)]
    expiring = [r for r in expiring if r["Expiration"].keys() & {"Days", "Date"}]
    for rule in expiring:
        yield fault(
            "lifecycle",
            f"Rule {rule.get('ID', '')!r} deletes files of the lake by their age.",
            f"Take {folder} out of it: the lake's own vacuum knows which files are needed.",
        )
    if not expiring:
        aborts = any("AbortIncompleteMultipartUpload" in r and _touches(r, folder) for r in rules)
        yield _uploads(told=lifecycle is not None, aborts=aborts)


def _uploads(*, told: bool, aborts: bool) -> Diagnosis:
    if aborts or not told:
        what = "no rule deletes files of the lake" if told else "not told by the store, or no rules"
        return well("lifecycle", what)
    return advice(
        "lifecycle",
        "Parts of uploads that were broken off are kept, unseen.",
        "Add a rule with AbortIncompleteMultipartUpload, of 7 days.",
    )


def _touches(rule: dict[str, Any], folder: str) -> bool:
    chosen = rule.get("Filter", {})
    prefix = chosen.get("Prefix", chosen.get("And", {}).get("Prefix", rule.get("Prefix", "")))
    return folder.startswith(prefix) or prefix.startswith(folder)


def _asked(call: Callable[..., Any], store: Store) -> dict[str, Any] | None:
    """A setting of the bucket; None where we may not see it, or the store has no such thing."""
    try:
        answer: dict[str, Any] = call(Bucket=store.bucket)
    except (ClientError, BotoCoreError):
        return None
    return answer


def _journal(lake: Lake) -> Iterator[Diagnosis]:
    newest = lake.journal.newest()
    if not newest:
        yield well("journal", f"nothing is published at {lake.uri} yet")
        return
    number = max(one.sync for one in newest.values())
    tables = len({name for name, _ in newest})
    yield well("journal", f"{tables} tables at {lake.uri}, sync {number}")
