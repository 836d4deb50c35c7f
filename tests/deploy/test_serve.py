"""`make serve`: the deployment's own files and processes, killed and going on."""

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

import dagster as dg
import psycopg
import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.processes import Process
from repl_pipelines.demo.s3_server import S3Server
from tests.deploy.broker import redis, time_out
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
    """Two workers on a broker, to which the steps of all runs go from now on."""
    with redis(served.project, served.broker):
        served.executor.write_text((served.project / "deploy" / "celery.yaml").read_text())
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
            name = str(told["Celery worker"].value).partition("@")[0]
            taken.setdefault(event.step_key, []).append(name)
    return taken


def done(instance: dg.DagsterInstance, run_id: str) -> set[str | None]:
    """Steps that have ended well."""
    ended = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
    return {entry.step_key for entry in ended}


def both_at_work(instance: dg.DagsterInstance, runs: Collection[str]) -> dict[str, str]:
    """The step of these runs that each of the two workers is at; nothing while one has none."""
    at_work = {
        names[-1]: key
        for run in runs
        for key, names in steps(instance, run).items()
        if key not in done(instance, run)
    }
    return at_work if len(at_work) == 2 else {}


def test_a_backfill_and_a_first_copy_spread_over_workers_of_which_one_is_killed(
    served: Deployment,
    instance: dg.DagsterInstance,
    databases: tuple[str, str],
    workers: list[Process],
) -> None:
    source, replica = databases
    keys = [f"{layer}/shop/events" for layer in ("lake", "duckdb", "postgres")]
    with psycopg.connect(source) as connection:  # nobody comes to an end before the other begins
        connection.execute("lock table events in access exclusive mode")
        connection.execute("delete from events where id in (1, 2)")  # of these days
        backfill = served.backfill(keys, ["2026-11-02", "2026-11-03"])
        ours = dg.RunsFilter(tags={"dagster/backfill": backfill})
        wait(lambda: both_at_work(instance, [r.run_id for r in instance.get_runs(ours)]))
    runs = [run.run_id for run in instance.get_runs(ours)]
    assert {ended(instance, run).status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    # A partition is a step of its own.
    assert sorted(n for r in runs for [n] in steps(instance, r).values()) == ["worker0", "worker1"]

    with psycopg.connect(source) as connection:
        connection.execute("alter table orders add column more text")  # so it is copied anew
        connection.execute(
            "insert into orders select i, repeat('x', 200) from generate_series(100, 1500) i"
        )
    load = served.launch("shop_load")
    wait(lambda: "shop_pieces" in done(instance, load))
    with psycopg.connect(source) as connection:
        connection.execute("lock table orders in access exclusive mode")
        killed = wait(lambda: both_at_work(instance, [load]))["worker0"]
        workers[0].kill()
        # Pieces of before and after are one copy.
        connection.execute("update orders set note = 'moved', id = -id where id in (7, 1300)")
    time_out(served.broker, killed)
    assert ended(instance, load).status is dg.DagsterRunStatus.SUCCESS
    taken = steps(instance, load)
    assert sum(key.startswith("shop_piece[") for key in taken) > 3
    assert taken[killed] == ["worker0", "worker1"]
    assert rows(replica) == rows(source)
    proven = served.prove()
    assert proven["proven"], proven
    assert len(proven["proofs"]) > 6


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
