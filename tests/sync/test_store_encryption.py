"""Encryption in the store is asked for with every write of every client: the server tells it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from repl_pipelines.errors import DeclarationError
from repl_pipelines.lake import store as store_module
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import Declaration, Mode, TableName
from repl_pipelines.orchestration.resources import S3Lake
from tests.faults import FaultProxy
from tests.sync.conftest import Bench

KEY = "the-lake"


def action(request: str) -> str:
    """What AWS asks to be allowed for a request of S3."""
    method, _, address = request.partition(" ")
    path, _, query = address.partition("?")
    if method == "GET" and "list-type=" in query:
        return "s3:ListBucket"
    if method == "DELETE":
        return "s3:AbortMultipartUpload" if "uploadId=" in query else "s3:DeleteObject"
    if method == "POST" and "delete" in query.split("&")[0]:
        return "s3:DeleteObject"
    assert path.count("/") > 1, request  # of an object
    return "s3:GetObject" if method in ("GET", "HEAD") else "s3:PutObject"


def allowed() -> dict[str, list[str]]:
    """The actions of the policy in docs/security.md, by its statements."""
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    [policy] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    return {one["Sid"]: one["Action"] for one in policy["Statement"]}


def test_every_object_is_encrypted_and_the_policy_is_enough(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data in one part and in several, logs, checkpoints, the journal, differences, proofs."""
    with FaultProxy(bench.bucket.endpoint_url) as proxy:
        bench.store = replace(bench.store, endpoint_url=proxy.endpoint_url)
        everything(bench, monkeypatch)
        requests = list(proxy.requests)
    assert {action(one) for one in requests} - {"s3:AbortMultipartUpload"} == {
        *allowed()["Objects"],
        *allowed()["Listing"],
    } - {"s3:AbortMultipartUpload"}
    lists = [one for one in requests if action(one) == "s3:ListBucket"]
    assert [one for one in lists if "prefix=lake" not in one] == []
    outside = [
        one
        for one in sorted(set(requests) - set(lists))
        # Many at once are named in the request's body.
        if f"/{bench.bucket.name}/lake/" not in one and not one.startswith("POST")
    ]
    assert outside == []


def everything(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MULTIPART_BYTES", 2**20)
    resource = S3Lake(bucket="b", server_side_encryption="aws:kms", sse_kms_key_id=KEY)
    given = resource.lake("shop").store
    bench.store = replace(
        bench.store,
        server_side_encryption=given.server_side_encryption,
        sse_kms_key_id=given.sse_kms_key_id,
    )
    bench.lake = Lake(bench.store, "shop")
    bench.sql(
        "create table logged (id int primary key, v text)",
        "create table large (id int, v text)",
        "insert into logged select i, 'one' from generate_series(1, 9) i",
        "insert into large select i, string_agg(md5((i * 1000 + j)::text), '')"
        " from generate_series(1, 100) i, generate_series(1, 999) j group by i",
    )
    replication = bench.replication(Declaration("logged", mode=Mode.LOG), Declaration("large"))
    assert replication.sync().failed == {}
    bench.sql("update logged set v = 'two' where id = 2")
    assert replication.sync().failed == {}
    logged = bench.lake.table(TableName("public", "logged"))
    DeltaTable(logged.uri, storage_options=bench.store.storage_options).create_checkpoint()
    assert not replication.prove().failed
    bench.lake.differences.append([{"run": "r"}])
    bench.lake.journal.compact()
    bench.lake.vacuum(retention=timedelta(0))

    client = bench.bucket.server.client()
    heads = {
        key: client.head_object(Bucket=bench.bucket.name, Key=key)
        for key in bench.store.keys("lake")
    }
    for part in ("_delta_log/0", "checkpoint.parquet", "_evidence", "_differences", "large/_rp"):
        assert any(part in key for key in heads), part
    assert any("-" in one["ETag"] for one in heads.values())  # in parts
    for key, one in heads.items():
        assert one.get("ServerSideEncryption") == "aws:kms", key
        assert one.get("SSEKMSKeyId") == KEY, key


def test_settings_that_no_store_has() -> None:
    for wrong in ({"server_side_encryption": "aes"}, {"sse_kms_key_id": "k"}):
        with pytest.raises(DeclarationError, match="AES256, aws:kms"):
            S3Lake(bucket="b", **wrong).lake("shop")
