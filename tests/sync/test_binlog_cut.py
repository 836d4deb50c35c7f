"""The exact cut on MariaDB: a sync's copy is the source at the sync's position, whoever writes."""

from __future__ import annotations

import os

import pymysql
import pytest

from repl_pipelines.model.entry import Action
from repl_pipelines.sources.mariadb import own
from repl_pipelines.sources.mariadb.connection import Address, Connection, Protection, connect, rows
from tests.servers import Bucket
from tests.sync.maria_writers import SCHEMA, writing
from tests.sync.marias import Maria, following
from tests.sync.writers import TORN

SYNCS = int(os.environ.get("REPL_PIPELINES_SYNCS", "8"))


def torn(maria: Maria) -> int:
    """Orders in the lake whose lines do not add up."""
    with maria.lake.session() as session:
        for table in maria.replication.tables():
            rows = maria.lake.table(table.name).rows_sql(table)
            session.execute(f"create or replace temp view {table.name.name} as {rows}")
        found = session.execute(TORN).fetchone()
    return found[0] if found else -1


def test_copies_are_exact_under_eight_writers(family_database: Address, bucket: Bucket) -> None:
    with following(family_database, bucket, *SCHEMA) as maria:
        changed = 0
        with writing(family_database, 8) as writers:
            for _ in range(SYNCS):
                verdict = maria.replication.prove()
                assert not verdict.failed, verdict.failed
                assert verdict.proven, [p for p in verdict.proofs if not p.proven]
                assert torn(maria) == 0
                entry = maria.lake.journal.newest()[maria.name("orders"), None].entry
                changed += entry.changed
                # From the log alone: nothing had to be found by comparison.
                assert maria.gaps == {"orders": "", "lines": ""}
                assert entry.action in {Action.CHANGES, Action.UNCHANGED}
                assert entry.reconciled == 0
        assert sum(writer.transactions for writer in writers) > SYNCS
        assert changed > SYNCS
        maria.end_prepared()
        maria.streamed()


def test_no_commit_comes_between_the_sessions_of_a_snapshot(
    mariadb_database: Address, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tries to is held up: it is in the log behind the position, and in no session's view."""
    with following(mariadb_database, bucket, "create table t (id int primary key)") as maria:
        sessions = [connect(mariadb_database, Protection(lock_timeout=1), "test") for _ in range(2)]
        for number, session in enumerate(sessions):
            rows(session, f"xa start '{number}'")
            rows(session, f"insert into t values ({number})")
            rows(session, f"xa end '{number}'")
            rows(session, f"xa prepare '{number}'")

        def meddled(connection: Connection, statement: str) -> object:
            found = rows(connection, statement)
            if statement.startswith("START TRANSACTION") and sessions:
                number = len(sessions) - 1
                with pytest.raises(pymysql.err.OperationalError, match="timeout"):
                    rows(sessions[-1], f"xa commit '{number}'")
                sessions.pop().close()
            return found

        monkeypatch.setattr(own, "rows", meddled)
        assert maria.streamed()["t"].changed == 0
        assert sessions == []
        maria.sql("xa commit '0'", "xa rollback '1'")
        assert maria.streamed()["t"].changed == 1
