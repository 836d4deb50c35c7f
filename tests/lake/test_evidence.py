"""Records of proofs in the store: written once, in one chain, whoever writes at the same time."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from repl_pipelines.errors import LakeDamaged, StoreUnavailable
from repl_pipelines.lake.evidence import EvidenceChain
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import TableName
from repl_pipelines.proof.evidence import verify
from tests.commands.calls import call
from tests.faults import FaultProxy, answer_lost, error, overtaken_by
from tests.lake.copies import store
from tests.servers import Bucket

TABLE = TableName("public", "orders")


def chain(bucket: Bucket, **other: str) -> EvidenceChain:
    return Lake(store(bucket, **other), "shop").evidence(TABLE)


def test_records_lie_in_the_sources_own_folder_and_are_chained(bucket: Bucket) -> None:
    records = chain(bucket)
    assert records.append({"run": "a"}).number == 1
    last = records.append({"run": "b"})
    keys = store(bucket).keys("lake/")
    assert keys[-1] == "lake/shop/_evidence/public/orders/0000000002.json"
    found = verify(records.records())
    assert (found.last, found.broken) == (last, "")


def test_racing_proofs_do_not_fork_the_chain(bucket: Bucket) -> None:
    records = chain(bucket)
    with ThreadPoolExecutor(4) as pool:
        links = list(pool.map(lambda run: records.append({"run": run}), range(12)))
    assert sorted(link.number for link in links) == list(range(1, 13))
    written = list(records.records())
    assert not verify(written).broken
    assert sorted(json.loads(content)["run"] for _, content in written) == list(range(12))


def test_a_lost_answer_does_not_make_a_second_record(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.fail(answer_lost(), "PUT .*_evidence")
    assert chain(bucket, endpoint_url=proxy.endpoint_url).append({"run": "a"}).number == 1
    assert len(list(chain(bucket).records())) == 1


def test_a_record_is_never_overwritten(bucket: Bucket, proxy: FaultProxy) -> None:
    """The racer's record arrives between our look at the chain and our write."""
    other = chain(bucket)
    proxy.fail(overtaken_by(lambda: other.append({"run": "racer"})), "PUT .*_evidence")
    mine = chain(bucket, endpoint_url=proxy.endpoint_url).append({"run": "mine"})
    assert mine.number == 2
    runs = [json.loads(content)["run"] for _, content in other.records()]
    assert runs == ["racer", "mine"]


def test_a_store_that_fails_is_said(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.fail(error(500), "PUT .*_evidence", times=100)
    with pytest.raises(StoreUnavailable, match="Recording a proof"):
        chain(bucket, endpoint_url=proxy.endpoint_url).append({"run": "a"})


def test_a_last_record_that_cannot_be_read_is_not_chained_to(bucket: Bucket) -> None:
    records = chain(bucket)
    records.append({"run": "a"})
    key = "lake/shop/_evidence/public/orders/0000000001.json"
    store(bucket).client().put_object(Bucket=bucket.name, Key=key, Body=b"gone")
    with pytest.raises(LakeDamaged, match="last record of the proofs"):
        records.append({"run": "b"})


def test_the_command_reads_a_lake_by_the_environment_of_aws(
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = chain(bucket)
    records.append({"run": "a"})
    last = records.append({"run": "b"})
    for name, value in {
        "AWS_ENDPOINT_URL": bucket.endpoint_url,
        "AWS_ACCESS_KEY_ID": bucket.access_key,
        "AWS_SECRET_ACCESS_KEY": bucket.secret_key,
    }.items():
        monkeypatch.setenv(name, value)
    call("evidence", "verify", records.uri, "--ends", last.hash)
    file = tmp_path / "all.jsonl"
    file.write_text(call("evidence", "export", records.uri).out)
    call("evidence", "verify", file, "--ends", last.hash)
