"""Each rule of the protocol, taken out of the code: a check notices, where it notices nothing else.

tests/model does the same to the algorithm; here it is done to the code that carries it out. Where
two rules stand in for each other (a TRUNCATE is in the stream and in the catalog), taking out one
changes nothing that anybody could notice: they are taken out together, and only so (`both`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.s3_server import S3Server
from repl_pipelines.lake.batches import Batches
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.figures import Figures, differences
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table
from repl_pipelines.proof import checksum
from repl_pipelines.proof.checksum import Form
from repl_pipelines.replicas import postgres
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.replicas.postgres_state import STATE_SCHEMA
from repl_pipelines.sources.postgres import horizon, statements
from repl_pipelines.sources.postgres.log import reading
from repl_pipelines.sources.postgres.log.drain import Drain
from repl_pipelines.sources.postgres.log.pgoutput import Begin
from repl_pipelines.sources.postgres.log.spool import Rows
from repl_pipelines.sources.postgres.log.visibility import Visibility
from repl_pipelines.sources.postgres.readers import Readers
from repl_pipelines.sources.postgres.snapshot import PostgresSnapshot
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync import changes, log, work
from repl_pipelines.sync.run import SyncRun
from tests.servers import fresh_bucket, fresh_database
from tests.sync import stories
from tests.sync.conftest import Bench
from tests.sync.stories import SLOT, Noticed, Stage, Story, watched

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    """What is wrong with the code, the story in which it shows, and what the check says."""

    story: Story
    noticed: str
    patch: Patch


def put(place: object, name: str, value: object) -> Patch:
    return lambda patch: patch.setattr(place, name, value)


def both(*patches: Patch) -> Patch:
    """Two rules that stand in for each other."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        for one in patches:
            one(patch)

    return apply


def never(*_: object) -> str:
    return ""


def takes_the_invisible(drain: Drain, begin: Begin) -> frozenset[Visibility]:
    if not drain.now.shows(begin.xid):
        drain.held = begin.commit
    return frozenset(past for past in drain._pasts if not past.shows(begin.xid))


def takes_again(drain: Drain, begin: Begin) -> frozenset[Visibility]:
    return drain._pasts if drain.now.shows(begin.xid) else lacking(drain, begin)


def holds_nothing_back(drain: Drain, begin: Begin) -> frozenset[Visibility]:
    drain.held = 0
    return lacking(drain, begin)


lacking, publish, hand_on, append = (
    Drain._lacking,
    SyncRun._publish,
    Rows._hand_on,
    changes._append,
)
connect, row_text = postgres.connect, checksum.row_text


def acknowledges_first(sync: SyncRun, entries: Sequence[Entry]) -> int:
    sync.means.source.acknowledge([entry.horizon for entry in entries if entry.horizon])
    return publish(sync, entries)


def publishes_one_by_one(sync: SyncRun, entries: Sequence[Entry]) -> int:
    appended = [sync.means.lake.journal.append([one], sync.request.run) for one in entries]
    return appended[-1].number


def without_order(*arguments: Any, deletes: bool) -> None:
    rows, raw, fields, places, sequence, stamps = arguments
    hand_on(rows, raw, fields, places, 0 * sequence, stamps, deletes=deletes)


def moves_nothing(*arguments: Any) -> Any:
    return np.zeros(np.count_nonzero(arguments[4]), np.bool_)


def highest(snapshot: PostgresSnapshot, table: Table, _: str | None) -> str | None:
    query = f"SELECT max({quote(table.cursor or '')})::text FROM {statements.relation(table)}"
    [(value,)] = snapshot._query(table, query)
    return str(value)


def reads_as_of_now(readers: Readers) -> object:
    session = readers._instance.session()
    session.execute("BEGIN")
    return session


@contextmanager
def without_transactions(*arguments: Any) -> Iterator[Any]:
    with connect(*arguments) as connection:
        vars(connection)["transaction"] = nullcontext
        yield connection


def only_counts(source: Figures, copy: Figures) -> object:
    return [one for one in differences(source, copy) if one.source.rows != one.copy.rows]


def text_of_null(forms: Sequence[Form]) -> str:
    return row_text([(f"coalesce({f[0]}, 0)", *f[1:]) if len(f) > 1 else f for f in forms])


def keeps_ghosts(*arguments: Any, ghosts: str) -> int:
    return append(*arguments, ghosts="false")


PREPARED = "select gid from pg_prepared_xacts where database = current_database()"

MUTANTS = {
    "what the snapshot does not show is taken": Mutant(
        stories.held_back, "NotProven", put(Drain, "_lacking", takes_the_invisible)
    ),
    "the log is let go of behind what is held back": Mutant(
        stories.held_back, "difference", put(Drain, "_lacking", holds_nothing_back)
    ),
    "acknowledged before the journal": Mutant(
        stories.held_back, "acknowledged", put(SyncRun, "_publish", acknowledges_first)
    ),
    "tables are published one by one": Mutant(
        stories.held_back, "torn", put(SyncRun, "_publish", publishes_one_by_one)
    ),
    "readers do not adopt the snapshot": Mutant(
        stories.held_back, "NotProven", put(Readers, "_open", reads_as_of_now)
    ),
    "a replica's tables have transactions of their own": Mutant(
        stories.held_back, "torn", put(postgres, "connect", without_transactions)
    ),
    "what the copy has is taken again": Mutant(
        stories.many_steps, "history", put(Drain, "_lacking", takes_again)
    ),
    "changes are told apart by their commits alone": Mutant(
        stories.many_steps, "NotProven", put(Rows, "_hand_on", without_order)
    ),
    "a key that an update changes is not deleted": Mutant(
        stories.many_steps, "difference", put(Rows, "_moved", moves_nothing)
    ),
    "values that the log leaves out become NULL": Mutant(
        stories.many_steps, "NotProven", put(log, "complete", lambda _, parts: parts)
    ),
    "TRUNCATE is ignored": Mutant(
        stories.beside_the_stream,
        "difference",
        both(put(Drain, "_truncate", never), put(reading, "altered", never)),
    ),
    "a slot made anew is not minded": Mutant(
        stories.beside_the_stream,
        "difference",
        both(put(reading, "broken", never), put(reading, "_missed", never)),
    ),
    "what a killed sync left is overlooked": Mutant(
        stories.killed,
        "SyncInProgress",
        both(put(Batches, "after", lambda *_: ()), put(Batches, "onwards", lambda *_: None)),
    ),
    "the highest cursor is the horizon": Mutant(
        stories.late_commits, "difference", put(PostgresSnapshot, "horizon", highest)
    ),
    "only transactions that have written are waited for": Mutant(
        stories.late_commits,
        "difference",
        put(horizon, "_OPEN", horizon._OPEN + " and backend_xid is not null"),
    ),
    "prepared transactions are overlooked": Mutant(
        stories.late_commits, "difference", put(horizon, "_PREPARED", "select 0")
    ),
    "rows that are gone stay": Mutant(
        stories.beside_the_cursor, "NotProven", put(changes, "_append", keeps_ghosts)
    ),
    "groups are compared by their counts": Mutant(
        stories.beside_the_cursor,
        "difference",
        both(put(changes, "differences", only_counts), put(work, "differences", only_counts)),
    ),
    "NULL is empty": Mutant(
        stories.beside_the_cursor, "difference", put(checksum, "row_text", text_of_null)
    ),
}


@pytest.fixture(scope="module")
def servers(
    postgres: PostgresServer, replica_postgres: PostgresServer, s3: S3Server
) -> Iterator[Stage]:
    with (
        fresh_database(postgres) as dsn,
        fresh_database(replica_postgres) as target,
        fresh_bucket(s3) as bucket,
    ):
        bench = Bench(dsn, bucket)
        yield Stage(bench, PostgresSource("shop", dsn), PostgresReplica("copy", target, "shop"))
        bench.connection.close()


@pytest.fixture
def stage(servers: Stage) -> Stage:
    """The same servers, with nothing on them."""
    store = servers.bench.store
    store.delete(store.keys(""))
    servers.sql(
        "drop publication if exists " + SLOT,
        f"select pg_drop_replication_slot(slot_name) from pg_replication_slots"
        f" where slot_name = '{SLOT}'",
        *(f"rollback prepared '{n}'" for (n,) in servers.bench.sql(PREPARED)),
        "drop schema public cascade",
        "create schema public",
    )
    with psycopg.connect(servers.replica.dsn, autocommit=True) as connection:
        connection.execute(f"drop schema if exists {STATE_SCHEMA} cascade")
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
    return servers


def noticed(story: Story, stage: Stage) -> str:
    with watched(stage):
        try:
            story(stage)
        except Noticed as wrong:
            return str(wrong)
    return ""


@pytest.mark.parametrize("story", {one.story: None for one in MUTANTS.values()})
def test_nothing_is_wrong_with_the_code(stage: Stage, story: Story) -> None:
    assert noticed(story, stage) == ""


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutant_is_noticed(stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.patch(monkeypatch)
    assert noticed(mutant.story, stage) == mutant.noticed
