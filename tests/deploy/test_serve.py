"""`make serve`: the deployment's own files and processes, killed and going on."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import dagster as dg
import psycopg
import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.s3_server import S3Server
from tests.deploy.place import Deployment
from tests.orchestration.conftest import SCHEMA
from tests.servers import fresh_bucket, fresh_database

Found = TypeVar("Found")


@pytest.fixture(scope="module")
def databases(postgres: PostgresServer) -> Iterator[tuple[str, str]]:
    """Addresses of the shop and of its replica."""
    with fresh_database(postgres) as source, fresh_database(postgres) as replica:
        with psycopg.connect(source, autocommit=True) as connection:
            for statement in SCHEMA:
                connection.execute(statement.encode())
        yield source, replica


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, databases: tuple[str, str], s3: S3Server
) -> Iterator[Deployment]:
    """One deployment for all tests here: its processes cost half a minute of CPU."""
    with fresh_bucket(s3) as bucket:
        deployment = Deployment(tmp_path_factory.mktemp("served"), *databases, bucket)
        serve = deployment.start()
        try:
            wait(lambda: "Dagster UI" in serve.log_text() or not serve.running())
            assert serve.running(), serve.log_text()
            yield deployment
        finally:
            serve.stop()


@pytest.fixture(scope="module")
def instance(served: Deployment) -> Iterator[dg.DagsterInstance]:
    """What webserver and daemon work with."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in served.storage().items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(served.home)) as found:
            yield found


def wait(until: Callable[[], Found | None], seconds: float = 850.0) -> Found:
    """What `until()` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return found


def ended(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    def run() -> dg.DagsterRun | None:
        found = instance.get_run_by_id(run_id)
        return found if found and found.is_finished else None

    return wait(run)


def materialized(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    return {e.asset_materialization.asset_key.to_user_string() for e in events}


def rows(dsn: str) -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("select id, note from orders order by id").fetchall()


def test_a_killed_code_server_is_started_again_and_its_run_redone_where_it_lacks(
    served: Deployment, instance: dg.DagsterInstance, databases: tuple[str, str]
) -> None:
    source, replica = databases
    assert type(instance.run_storage).__name__ == "PostgresRunStorage"
    first = ended(instance, served.launch("shop_sync"))
    assert first.status is dg.DagsterRunStatus.SUCCESS
    with psycopg.connect(source) as connection:
        connection.execute("update orders set note = 'new', updated_at = now() where id < 4")
    with psycopg.connect(replica) as connection:
        connection.execute("lock table orders in access exclusive mode")  # it cannot go on there
        killed = served.launch("shop_sync")
        wait(lambda: "duckdb/shop/_syncs" in materialized(instance, killed))
        os.killpg(served.child("dagster api grpc"), signal.SIGKILL)

    run = ended(instance, killed)
    assert run.status is dg.DagsterRunStatus.FAILURE
    again = wait(lambda: instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": killed})))
    retried = ended(instance, again[0].run_id)
    assert retried.status is dg.DagsterRunStatus.SUCCESS
    assert {key.to_user_string() for key in retried.asset_selection or ()} == {
        f"postgres/shop/{name}" for name in ("countries", "orders", "_syncs")
    }
    assert rows(replica) == rows(source)
    said = [e.dagster_event.message or "" for e in instance.all_logs(killed) if e.dagster_event]
    assert any("knows no process of this run" in message for message in said)


def test_nothing_is_left_when_it_is_told_to_end(served: Deployment) -> None:
    serve = served.serve
    assert serve is not None
    groups = [
        served.child(name) for name in ("dagster api grpc", "webserver", "daemon", "postgres")
    ]
    os.kill(serve.pid, signal.SIGTERM)
    assert serve.wait(120) == 0, serve.log_text()
    for group in groups:
        with pytest.raises(ProcessLookupError):
            os.killpg(group, 0)
    assert "Stopped" in serve.log_text()
