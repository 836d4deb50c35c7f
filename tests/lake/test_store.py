"""The store: probed before it is trusted, and each way of refusing said clearly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from repl_pipelines.errors import DeclarationError, StoreRefused, StoreUnavailable
from repl_pipelines.lake import lake as lake_module
from repl_pipelines.lake import store as store_module
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import store_errors
from tests.faults import FaultProxy, accepted, answer_lost, dropped, error, expired
from tests.lake.copies import ITEMS, copy_of, store
from tests.servers import Bucket


def test_a_good_store_passes_and_nothing_stays(bucket: Bucket) -> None:
    good = store(bucket)
    good.probe()
    assert "Contents" not in good.client().list_objects_v2(Bucket=bucket.name)


def test_a_store_that_ignores_conditions_is_refused(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.fail(accepted(), "PUT .*_probe", times=2)
    with pytest.raises(StoreRefused, match="ignores conditional writes"):
        store(bucket, endpoint_url=proxy.endpoint_url).probe()


def test_a_store_without_conditions_is_refused(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.fail(error(501, "NotImplemented"), "PUT .*_probe")
    with pytest.raises(StoreRefused, match="does not implement"):
        store(bucket, endpoint_url=proxy.endpoint_url).probe()


@pytest.mark.parametrize("fault", [error(503, "SlowDown"), dropped(), answer_lost()])
@pytest.mark.parametrize("after", [0, 1])
def test_a_probe_survives_passing_faults(
    bucket: Bucket, proxy: FaultProxy, fault: object, after: int
) -> None:
    proxy.fail(fault, "PUT .*_probe", after=after)  # type: ignore[arg-type]
    store(bucket, endpoint_url=proxy.endpoint_url).probe()


def test_a_missing_bucket(bucket: Bucket) -> None:
    with pytest.raises(StoreRefused, match=r"does not exist.*Create it"):
        replace(store(bucket), bucket="no-such-bucket").probe()


@pytest.mark.parametrize(
    "wrong", [{"secret_key": "wrong"}, {"access_key": "wrong"}, {"session_token": "stale"}]
)
def test_wrong_credentials(bucket: Bucket, wrong: dict[str, str]) -> None:
    with pytest.raises(StoreRefused, match=r"denies access.*Check access key"):
        store(bucket, **wrong).probe()


def test_secrets_are_not_shown(bucket: Bucket) -> None:
    shown = repr(store(bucket, session_token="temporary"))
    assert bucket.secret_key not in shown
    assert "temporary" not in shown
    with pytest.raises(StoreRefused) as caught:
        store(bucket, secret_key="very-wrong-secret").probe()
    assert "very-wrong-secret" not in str(caught.value)


def test_expired_credentials(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.fail(expired(), times=100)
    with pytest.raises(StoreRefused, match="have expired"):
        store(bucket, endpoint_url=proxy.endpoint_url).probe()


def test_no_credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreRefused, match="no credentials"):
        store(bucket, access_key=None, secret_key=None).probe()


def test_credentials_of_the_environment(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.secret_key)
    copy = copy_of(ITEMS, bucket, access_key=None, secret_key=None)
    copy.lake.store.probe()
    copy.copy("SELECT 1::BIGINT AS id, 'one' AS name")
    assert copy.rows() == [(1, "one")]


def test_renewed_credentials_reach_open_lakes(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(ITEMS, bucket)
    copy.copy("SELECT 1::BIGINT AS id, 'one' AS name")
    query = copy.place.rows_sql(copy.table)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_credentials", lambda _: (bucket.access_key, "outdated", None))
        with pytest.raises(StoreRefused):
            copy.run(query)
    assert copy.run(query) == [(1, "one")]


def test_an_unreachable_endpoint(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "ATTEMPTS", 2)
    gone = store(bucket, endpoint_url="http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match="reachable"):
        gone.probe()
    with pytest.raises(StoreUnavailable, match="reachable"):
        copy_of(ITEMS, bucket, endpoint_url="http://127.0.0.1:9").place.batches.head()


def test_a_read_that_is_not_answered_damages_nothing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB tells it with the words that it has for files that cannot be read."""
    monkeypatch.setattr(lake_module, "ATTEMPTS", 0)
    lake = copy_of(ITEMS, bucket, endpoint_url="http://127.0.0.1:9").lake
    file = lake.store.uri("lake/t.parquet")
    with (
        pytest.raises(StoreUnavailable, match="reachable"),
        store_errors("Reading"),
        lake.session() as session,
    ):
        session.execute(f"FROM read_parquet('{file}')")


def test_large_files_go_up_in_parts(
    bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store_module, "MULTIPART_BYTES", 2**20)
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * (9 * 2**12))  # 9 MiB
    through = store(bucket, endpoint_url=proxy.endpoint_url)
    proxy.fail(error(), "PUT .*partNumber=2")
    through.put_file(file, "large")
    assert proxy.seen("PUT .*partNumber=2") == 2
    assert through.read("large") == file.read_bytes()


@pytest.mark.parametrize("prefix", ["a b", "../up", "a//b", "ü", "a/./b", "~x"])
def test_an_unusable_prefix_is_refused(bucket: Bucket, prefix: str) -> None:
    with pytest.raises(DeclarationError, match="prefix"):
        store(bucket, prefix=prefix)
