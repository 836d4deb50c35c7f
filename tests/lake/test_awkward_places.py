"""Where the lake lies reads like an error of the store: what is wrong is still told apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from repl_pipelines.errors import LakeDamaged, ReplicationError, StoreRefused, StoreUnavailable
from tests.faults import Fault, FaultProxy, error
from tests.lake.copies import ITEMS, Copy

PLACE = "NoSuchBucket/test-403-AccessDenied/404/HTTP-timeout/ExpiredToken-Unauthorized"
THREE = "SELECT i AS id, 'row ' || i AS name FROM range(3) AS r(i)"


@pytest.mark.parametrize(
    ("damaged", "content"),
    [("a file", b""), ("a file", b"none" * 50), ("a file", None), ("the log", b"none" * 50)],
)
def test_damage_is_damage(
    make_copy: Callable[..., Copy], damaged: str, content: bytes | None
) -> None:
    copy = make_copy(ITEMS, prefix=PLACE)
    copy.copy(THREE)
    store = copy.lake.store
    path = copy.place.files()[0].path if damaged == "a file" else f"_delta_log/{0:020d}.json"
    key = f"{copy.place.uri.removeprefix(f's3://{store.bucket}/')}/{path}"
    if content is None:
        store.client().delete_object(Bucket=store.bucket, Key=key)
    else:
        store.client().put_object(Bucket=store.bucket, Key=key, Body=content)
    with pytest.raises(LakeDamaged, match=r"public\.items"):
        copy.rows()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(error(403, "AccessDenied"), StoreRefused), (error(500, "InternalError"), StoreUnavailable)],
)
def test_the_store_is_to_blame(
    make_copy: Callable[..., Copy],
    proxy: FaultProxy,
    fault: Fault,
    expected: type[ReplicationError],
) -> None:
    make_copy(ITEMS, prefix=PLACE).copy(THREE)
    copy = make_copy(ITEMS, prefix=PLACE, endpoint_url=proxy.endpoint_url)
    proxy.fail(fault, times=1000)
    with pytest.raises(expected):
        copy.rows()
