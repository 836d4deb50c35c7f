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
from repl_pipelines.demo.processes import Process
from repl_pipelines.demo.s3_server import S3Server
from tests.deploy.broker import redis
from tests.deploy.place import Deployment, processes
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
        time.sleep(0.5)
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


@pytest.fixture
def workers(served: Deployment) -> Iterator[list[Process]]:
    """Two workers on a broker, to which all steps go from now on."""
    with redis(served.project, served.broker):
        told = (served.project / "deploy" / "celery.yaml").read_text()
        patient = "visibility_timeout: 14400"
        assert patient in told  # longer than a step here need not be half a day
        served.executor.write_text(told.replace(patient, "visibility_timeout: 60"))
        served.restart_code()
        started = [served.worker(f"worker{i}") for i in range(2)]
        try:
            yield started
        finally:
            for worker in started:
                worker.kill()


def steps(instance: dg.DagsterInstance, run_id: str) -> dict[str, list[str]]:
    """The workers that took each step of a run."""
    taken: dict[str, list[str]] = {}
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        told = event.engine_event_data.metadata if event else {}
        if "Celery worker" in told and event.step_key:
            taken.setdefault(event.step_key, []).append(str(told["Celery worker"].value))
    return taken


def killed_at_work(worker: Process, instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Kill a worker in the middle of a piece, which is returned; none: it was at no piece."""

    def pieces() -> list[str]:
        ended = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
        done = {entry.step_key for entry in ended}
        taken = steps(instance, run_id).items()
        mine = [k for k, names in taken if any(n.startswith("worker0@") for n in names)]
        return [key for key in mine if key.startswith("shop_piece[") and key not in done]

    if pieces():
        os.killpg(worker.pid, signal.SIGSTOP)
        if found := pieces():
            worker.kill()
            return found
        os.killpg(worker.pid, signal.SIGCONT)
    return []


def test_a_first_copy_and_a_backfill_spread_over_workers_of_which_one_is_killed(
    served: Deployment,
    instance: dg.DagsterInstance,
    databases: tuple[str, str],
    workers: list[Process],
) -> None:
    source, replica = databases
    with psycopg.connect(source) as connection:
        connection.execute("alter table orders add column more text")  # so it is copied anew
        connection.execute(
            "insert into orders select i, repeat('x', 200) from generate_series(100, 8000) i"
        )
    load = served.launch("shop_load")

    [killed] = wait(lambda: killed_at_work(workers[0], instance, load))
    with psycopg.connect(source) as connection:  # pieces of before and after are one copy
        connection.execute("update orders set note = 'moved', id = -id where id in (7, 3000)")
    assert ended(instance, load).status is dg.DagsterRunStatus.SUCCESS
    taken = steps(instance, load)
    pieces = {key: names for key, names in taken.items() if key.startswith("shop_piece[")}
    assert len(pieces) > 3
    assert {name.split("@")[0] for names in pieces.values() for name in names} == {
        "worker0",
        "worker1",
    }
    assert len(taken[killed]) > 1  # another has done it
    assert rows(replica) == rows(source)

    with psycopg.connect(source) as connection:
        connection.execute("delete from events where id in (1, 2)")  # of these days
    keys = [f"{layer}/shop/events" for layer in ("lake", "duckdb", "postgres")]
    tags = {"dagster/backfill": served.backfill(keys, ["2026-11-02", "2026-11-03"])}
    wait(lambda: len(instance.get_runs(dg.RunsFilter(tags=tags))) == 2)
    for run in instance.get_runs(dg.RunsFilter(tags=tags)):
        assert ended(instance, run.run_id).status is dg.DagsterRunStatus.SUCCESS
        [names] = steps(instance, run.run_id).values()  # a partition is a step of its own
        assert {name.split("@")[0] for name in names} == {"worker1"}
    proof = served.launch("shop_validate")
    assert ended(instance, proof).status is dg.DagsterRunStatus.SUCCESS


def test_nothing_is_left_when_it_is_told_to_end(served: Deployment) -> None:
    serve = served.serve
    assert serve is not None
    names = ("dagster api grpc", "dagster-webserver", "dagster-daemon", "bin/postgres")
    groups = {served.child(name) for name in names}
    assert {p.group for p in processes()} >= groups
    os.kill(serve.pid, signal.SIGTERM)
    assert serve.wait(600) == 0, serve.log_text()
    assert not [p for p in processes() if p.group in groups]
    assert "Stopped" in serve.log_text()
