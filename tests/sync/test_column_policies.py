"""Protected columns: their values reach nothing of ours, and the copies are proven all the same."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines import duck
from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.errors import (
    ColumnNotFound,
    CursorUnusable,
    DeclarationError,
    KeyNotUnique,
    SourceUnavailable,
    TerminalError,
    ValueNotRepresentable,
)
from repl_pipelines.model.column import Policies, Policy
from repl_pipelines.model.table import Declaration, Mode, TableName, TimePartition
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.concealment import CipherKey, HashKey, Secrets
from repl_pipelines.sources.postgres.readers import Readers
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sources.postgres.types import key_settings
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.report import SyncReport
from tests.sync.canaries import Canaries
from tests.sync.conftest import Bench

KEY, OTHER_KEY = "the key that these tests hash with", "another one, after a change"
CIPHER_KEY = "the key that these tests encrypt with"
PERSON, PHONE, DOC, PICTURE, NOTE, IBAN = (
    "Canary Finch",
    7260543198,
    "cnryInJson",
    "cnryBytes",
    "cnryNote",
    "cnryIbän",
)
CANARIES = (PERSON, str(PHONE), DOC, PICTURE, NOTE, IBAN, KEY, OTHER_KEY, CIPHER_KEY)
COLUMNS = (
    "person text, phone bigint, doc jsonb, picture bytea, side_note name,"
    " at timestamptz default now(), plain text, iban varchar(40)"
)
# By exact name, by pattern and by type.
GENERAL = Policies(
    {
        "ph*": Policy.FAIL,
        "person": Policy.HASH,
        "phone": Policy.HASH,
        "*_note": Policy.MASK,
        "iban": Policy.ENCRYPT,
    },
    {"bytea": Policy.DROP, "json*": Policy.MASK},
)


def hashed(value: object, key: str = KEY) -> str:
    """HMAC as Python's own library has it."""
    return hmac.new(key.encode(), str(value).encode(), hashlib.sha256).hexdigest()


def parts(key: str) -> tuple[str, ...]:
    """All of a key that sessions have."""
    return (*HashKey(key.encode()).pads(), *key_settings(Secrets.of("", encrypt_key=key)).values())


def recipe(name: str) -> Callable[..., Any]:
    """A function of the page that tells how to decrypt."""
    page = (Path(__file__).parents[2] / "docs" / "protection.md").read_text()
    known: dict[str, Any] = {}
    exec("import hmac" + page.split("```python\nimport hmac")[1].split("```")[0], known)  # noqa: S102 - our own page
    return known[name]


def values(n: int) -> str:
    """Columns of a row whose protected values are canaries, and all different."""
    doc = f"jsonb_build_object('who', '{DOC}{n}', 'wide', repeat(md5('{n}'), 200))"
    return (
        f"'{PERSON} {n}', {PHONE * 10 + n}, {doc}, '{PICTURE}{n}'::bytea, '{NOTE}{n}',"
        f" '2026-11-0{1 + n % 3}', 'plain {n}', '{IBAN}{'x' * n * 5}'"
    )


@dataclass
class Place:
    """One replication of all modes with both kinds of replica."""

    bench: Bench
    duck: Path
    replica: str
    canaries: Canaries

    def replication(self, *declarations: Declaration, key: str = KEY) -> Replication:
        bench = self.bench
        source = PostgresSource(
            "shop", bench.dsn, bench.protection, hash_key=key, encrypt_key=CIPHER_KEY
        )
        declared = [replace(one, general=GENERAL) for one in declarations or MODES]
        return Replication("shop", source, bench.lake, bench.replicas, declared)

    def look(self) -> None:
        self.canaries.look_everywhere(self.bench, self.duck, self.replica)
        self.canaries.assert_none()

    def sync(self, replication: Replication) -> SyncReport:
        report = replication.sync()
        assert not report.failed, report.failed
        for replica in ("duck", "pg"):
            replication.apply(replica)
        return report

    def rows(self, name: str) -> list[tuple]:
        """(person, phone, plain) of all three copies, which are one; the others are masked."""
        query = (
            "select person, phone, doc, side_note, plain, iban"
            f" from public.{name} order by plain, phone"
        )
        with psycopg.connect(self.replica) as connection:
            rows = connection.execute(query.encode()).fetchall()
        with duckdb.connect(self.duck / "duck.duckdb", read_only=True) as session:
            assert session.execute(query).fetchall() == rows
            read = recipe("readable")(session, CIPHER_KEY)
            ibans = read.execute(f"select plain, decrypt(iban) from public.{name}").fetchall()
        assert all(iban == IBAN + "x" * int(plain.split()[1]) * 5 for plain, iban in ibans), ibans
        with self.bench.lake.session() as session:
            copy = self.bench.lake.table(TableName("public", name))
            [table] = [t for t in self.replication().tables() if t.name.name == name]
            lake = query.replace(f"from public.{name}", f"from ({copy.rows_sql(table)})")
            assert session.execute(lake).fetchall() == rows
            assert "picture" not in [c.name for c in table.columns]
        assert {row[2:4] for row in rows} == {("***", "***")}
        return [(person, phone, plain) for person, phone, _, _, plain, _ in rows]


KEYED = ("people", "members")  # by a column that is hashed
MODES = (
    Declaration("bag"),  # it has no key
    Declaration("days", partition=TimePartition("at", start="2026-11-01")),
    Declaration("streamed", mode=Mode.LOG),
    Declaration("people", mode=Mode.LOG),
    Declaration("members", cursor="at"),
)


@pytest.fixture
def place(bench: Bench, tmp_path: Path, replica_database: str) -> Place:
    bench.replicas += [
        DuckDBReplica("duck", tmp_path / "duck", "shop"),
        PostgresReplica("pg", replica_database, "shop"),
    ]
    bench.sql("create schema apart", "create extension pgcrypto schema apart")
    for declaration in MODES:
        name = declaration.name
        keyed = "" if name in ("bag", *KEYED) else "id int primary key, "
        columns = COLUMNS if keyed or name == "bag" else f"{COLUMNS}, primary key (person)"
        bench.sql(f"create table {name} ({keyed}{columns})")
        for n in range(1, 7):
            bench.sql(f"insert into {name} values ({f'{n}, ' if keyed else ''}{values(n)})")
    return Place(bench, tmp_path / "duck", replica_database, Canaries(*CANARIES))


# The second leaves the document where it is, out of line: the log does not tell it.
CHANGES = (
    "update {t} set person = {person}, plain = 'plain 2 changed', at = now() where phone % 10 = 2",
    "update {t} set plain = 'plain 3 changed', at = now() where phone % 10 = 3",
    "delete from {t} where phone % 10 = 4",
)


def expected(name: str, key: str = KEY) -> list[tuple]:
    """What a copy must show after CHANGES."""
    rows: list[tuple] = []
    for n in (1, 2, 3, 5, 6):
        person = hashed(f"{PERSON} {n}", key)
        if n == 2:
            person = hashed(f"{PERSON} moved", key) if name in KEYED else None
        plain = f"plain {n} changed" if n in (2, 3) else f"plain {n}"
        rows.append((person, hashed(PHONE * 10 + n, key), plain))
    return rows


def test_no_protected_value_leaves_the_source_in_any_mode(
    place: Place,
    postgres: PostgresServer,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    bench, canaries = place.bench, place.canaries
    [(name,)] = bench.sql("select current_database()")
    bench.sql(f"alter database \"{name}\" set log_statement = 'all'")
    replication = place.replication()
    with caplog.at_level("INFO"), canaries.watching_scratch():
        place.sync(replication)
        place.look()
        for name in (declaration.name for declaration in MODES):
            person = f"'{PERSON} moved'" if name in KEYED else "null"
            bench.sql(*(change.format(t=name, person=person) for change in CHANGES))
        report = place.sync(replication)
        streamed = [e for e in report.entries if e.table.name in ("streamed", "people")]
        assert [(e.action.value, e.changed, e.reconciled) for e in streamed] == [
            ("changes", 4, 0),  # the old key's row is deleted
            ("changes", 3, 0),
        ]
        for declaration in MODES:
            assert place.rows(declaration.name) == expected(declaration.name), declaration.name
        place.look()

        # Differences are told down to the value: what the source would hold is not.
        with psycopg.connect(place.replica, autocommit=True) as connection:
            connection.execute("update members set phone = 'damaged', doc = 'damaged'")
            connection.execute("delete from bag where plain = 'plain 5'")
        verdict = replication.prove()
        assert not verdict.proven
        shown = repr(verdict)
        assert f"person={hashed(f'{PERSON} 5')}" in shown
        assert "'damaged'" in shown
        canaries.look("the verdict", shown)
        assert replication.repair(limit=1).after.proven
        place.look()

        # Under another key all is copied anew, and nothing of the former one stays.
        other = place.replication(key=OTHER_KEY)
        report = place.sync(other)
        assert {entry.action.value for entry in report.entries} == {"copy"}
        for declaration in MODES:
            assert place.rows(declaration.name) == expected(declaration.name, OTHER_KEY)
        place.look()
    canaries.look("logs", caplog.text)
    canaries.look("output", "".join(capfd.readouterr()))
    canaries.assert_none()
    statements = (postgres.directory / "postgres.log").read_text()
    assert "current_setting" in statements
    known = (KEY, OTHER_KEY, CIPHER_KEY)
    keys = Canaries(*(text for key in known for text in (key, *parts(key))))
    keys.look("the source's log of statements", statements)
    keys.assert_none()


PERSON_KEY = {"person": Policy.HASH}
REFUSED = {
    "masked_key": (DeclarationError, {"id": Policy.MASK}, "'id' is part of the key", "`hash`"),
    "dropped_key": (DeclarationError, {"id": Policy.DROP}, "'id' is part of the key", "`key`"),
    "hashed_cursor": (CursorUnusable, {"at": Policy.HASH}, "cursor column 'at'", "Choose another"),
    "dropped_cursor": (CursorUnusable, {"at": Policy.DROP}, "cursor column 'at'", "`drop`"),
    "masked_days": (DeclarationError, {"at": Policy.MASK}, "partition column 'at'", "`mask`"),
    "no_match": (ColumnNotFound, {"*mail*": Policy.HASH}, "'*mail*'"),
    # What is wrong with values is said without them.
    "misfit": (ValueNotRepresentable, PERSON_KEY, "'price'", f"key {hashed(PERSON)} has no place"),
    "twice": (KeyNotUnique, PERSON_KEY, hashed(PERSON)),
    "view": (TerminalError, PERSON_KEY, "could not be read: invalid input syntax for type integer"),
    "filtered": (TerminalError, {"person": Policy.DROP}, "could not be read: invalid input syntax"),
}


def declared(name: str, policies: dict[str, Policy]) -> Declaration:
    key = ("person",) if policies == PERSON_KEY and name != "view" else None
    cursor = "at" if name.endswith("cursor") else None
    partition = TimePartition("at") if name.endswith("days") else None
    return Declaration(name, key=key, cursor=cursor, partition=partition, policies=policies)


def test_refusals_name_the_column_and_never_a_value(bench: Bench) -> None:
    for name in REFUSED:
        made = "id int primary key, person text, price numeric(8,2), at timestamptz"
        bench.sql(f"create table {name} ({made})")
        bench.sql(f"insert into {name} values (1, '{PERSON}', 'NaN', now())")
    bench.sql(
        f"insert into twice values (2, '{PERSON}', 1, now())",
        "update twice set price = 1",
        "alter table view rename to seen",
        "create view view as select id, person::int as person from seen",
        "alter table filtered rename to unfiltered",
        "create view filtered as select id, person from unfiltered where person::int > 0",
    )
    canaries = Canaries(*CANARIES)
    source = PostgresSource("shop", bench.dsn, hash_key=KEY)
    wrong = [declared(name, policies) for name, (_, policies, *_) in REFUSED.items()]
    report = Replication("shop", source, bench.lake, [], wrong).sync()
    for name, (kind, _, *words) in REFUSED.items():
        error = report.failed[TableName("public", name)]
        assert type(error) is kind, error
        assert [word for word in words if word not in str(error)] == []
        canaries.look_at_error(error)
    canaries.assert_none()
    # A table of its own, whose column has no key to be hashed with.
    survey = PostgresSource("shop", bench.dsn).survey([declared("twice", PERSON_KEY)])
    assert "`hash_key`" in str(survey.problems[TableName("public", "twice")])
    # A database without pgcrypto, or with somebody else's function in its place.
    source = PostgresSource("shop", bench.dsn, encrypt_key=CIPHER_KEY)
    encrypted = [declared("twice", {"price": Policy.ENCRYPT})]
    for statement in (
        "select",
        (
            "create function encrypt_iv(bytea, bytea, bytea, text) returns bytea language sql"
            " as 'select $1'"
        ),
    ):
        bench.sql(statement)
        problem = source.survey(encrypted).problems[TableName("public", "twice")]
        assert "CREATE EXTENSION pgcrypto" in str(problem)
    with pytest.raises(DeclarationError, match="is its encrypt_key"):
        PostgresSource("shop", bench.dsn, hash_key=KEY, encrypt_key=KEY)
    with pytest.raises(DeclarationError, match="shorter than 16 bytes") as caught:
        PostgresSource("shop", bench.dsn, hash_key="guessed")
    assert "guessed" not in str(caught.value)


def test_an_address_with_its_secrets_is_not_shown() -> None:
    secrets = Secrets.of("shop", KEY, CIPHER_KEY)
    canaries = Canaries("a secret password", *parts(KEY), *parts(CIPHER_KEY))
    options = " ".join(f"-c {name}={value}" for name, value in key_settings(secrets).items())
    dsn = make_conninfo("", host="127.0.0.1", port=1, password="a secret password", options=options)
    readers = Readers("shop", dsn, "", workers=1, instance=duck.Instance(("postgres_scanner",)))
    with (
        pytest.raises(SourceUnavailable, match=r"host=127\.0\.0\.1 port=1") as caught,
        readers.reader("reading people"),
    ):
        pass
    canaries.look_at_error(caught.value)
    canaries.assert_none()


def test_a_cipher_that_was_altered_is_not_decrypted() -> None:
    key = CipherKey.of(HashKey(CIPHER_KEY.encode()))
    decrypt = recipe("decrypt")
    for text in ("", "x", "x" * 15, "x" * 16, "ä" * 1000):
        cipher = key.cipher(text)
        assert len(cipher) == 32 * (len(text.encode()) // 16 + 2)
        assert decrypt(CIPHER_KEY, cipher) == text
        for place in (0, 31, 32, len(cipher) - 1):
            altered = f"{cipher[:place]}{int(cipher[place], 16) ^ 1:x}{cipher[place + 1 :]}"
            with pytest.raises(ValueError, match=r"altered|padding"):
                decrypt(CIPHER_KEY, altered)
        with pytest.raises(ValueError, match=r"altered|padding"):
            decrypt(KEY, cipher)
