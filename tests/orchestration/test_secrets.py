"""No secret is in anything that is logged, raised, shown, stored or handed to another process."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.project import declared
from repl_pipelines.errors import ReplicationError
from repl_pipelines.orchestration.resources import (
    MariaDBSource,
    PostgresReplica,
    PostgresSource,
    S3Lake,
)
from repl_pipelines.sources.mariadb.connection import Address
from tests.commands.calls import call
from tests.orchestration.conftest import HASH_KEY, YAML
from tests.orchestration.project import Project
from tests.sync.canaries import Canaries

WRONG = "canary/Wr0ng+pass'word"
HASHED = YAML.replace("    - countries\n", "    - {name: countries, columns: {name: hash}}\n")


@pytest.fixture
def canaries(project: Project) -> Canaries:
    passwords = [str(conninfo_to_dict(d)["password"]) for d in (project.source, project.replica)]
    return Canaries(*passwords, project.bucket.secret_key, HASH_KEY, WRONG)


def test_no_secret_is_anywhere(
    project: Project,
    canaries: Canaries,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """After runs that succeed and runs that fail: on every way in, on the way, at the end."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.chdir(project.root)
    project.declare(HASHED)
    project.refresh()
    assert project.run("lake/shop/countries", "postgres/shop/countries").success
    engine = declared(project.root, "shop").engine()
    canaries.look("the engine", repr((engine.source, engine.lake, engine.replicas)))
    canaries.look("its parts", repr((vars(engine.lake)["store"], *engine.replicas.values())))
    canaries.look("a report", repr((engine.sync(), engine.prove(), engine.repair())))
    for error in failures(project, monkeypatch):
        canaries.look_at_error(error)
    monkeypatch.setenv("TEST_PASSWORD", WRONG)
    assert not project.run("lake/shop/countries").success
    for flags in ((), ("--json",), ("--debug",)):
        said = call("sync", "shop", *flags, code=Exit.ACT)
        canaries.look("a command", said.out + said.err)

    for record in project.instance.get_runs():
        for event in project.instance.all_logs(record.run_id):
            canaries.look(f"an event of run {record.run_id}", repr(event))
    canaries.look("logs", "".join(f"{r.name} {r.getMessage()} {r.args}" for r in caplog.records))
    out, err = capfd.readouterr()
    canaries.look("the outputs", out + err)
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            canaries.look(f"arguments {file}", file.read_bytes())
    for file in filter(Path.is_file, project.root.rglob("*")):
        canaries.look(str(file), file.read_bytes())
    for key in engine.lake.store.keys(""):
        canaries.look_into(key, engine.lake.store.read(key) or b"")
    canaries.assert_none()


def failures(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplicationError]:
    """What is raised where one thing is wrong."""
    wrong = [(name, WRONG) for name in ("TEST_PASSWORD", "TEST_SECRET_KEY")]
    for name, value in (*wrong, ("TEST_REPLICA_PASSWORD", WRONG), ("TEST_HASH_KEY", "short")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            yield raised(project)
    module = project.root / project.name / "connections.py"
    before = module.read_text()
    port = f"port={conninfo_to_dict(project.source)['port']}"
    authority = project.root / "authority.pem"
    authority.write_text("no certificate")
    changes = (
        (port, "port=1"),
        (port, f"{port}, sslrootcert={str(authority)!r}"),
        ("user='postgres'", "user='nobody'"),
    )
    for old, new in changes:
        assert old in before
        module.write_text(before.replace(old, new, 1))
        sys.modules.pop(f"{project.name}.connections", None)
        yield raised(project)
    module.write_text(before)
    sys.modules.pop(f"{project.name}.connections", None)


def raised(project: Project) -> ReplicationError:
    try:
        engine = declared(project.root, "shop").engine()
        for error in engine.sync().failed.values():
            return error
        engine.apply("postgres")
    except ReplicationError as error:
        return error
    raise AssertionError("Nothing was wrong.")


def test_nothing_that_has_a_secret_shows_it() -> None:
    canaries = Canaries(WRONG)
    where = {"host": "h", "user": "u", "password": WRONG}
    shown = [
        PostgresSource(**where, dbname="d", hash_key=WRONG, encrypt_key=WRONG),
        PostgresReplica(**where, dbname="d"),
        MariaDBSource(**where, database="d"),
        S3Lake(bucket="b", access_key="a", secret_key=WRONG, session_token=WRONG),
        Address("h", "u", "d", WRONG),
    ]
    canaries.look("reprs", "".join(f"{one!r} {one}" for one in shown))
    canaries.look("parts", repr([shown[1].replica("pg", "shop"), shown[3].lake("shop").store]))  # type: ignore[union-attr]
    canaries.assert_none()
    # And what is still to come: of what says that it is never shown.
    kinds = (PostgresSource, PostgresReplica, MariaDBSource, S3Lake)
    fields = [field for kind in kinds for field in kind.model_fields.values()]
    secret = [field for field in fields if "never shown" in (field.description or "")]
    assert len(secret) >= 8
    assert not any(field.repr for field in secret)
