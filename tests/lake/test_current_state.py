"""What the rows of a lake table are: base, changes, versions, and names of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import duckdb
import pytest

from repl_pipelines.errors import ColumnNotFound, DeclarationError, LakeDamaged
from repl_pipelines.lake.batches import Replace
from repl_pipelines.model.entry import Action
from repl_pipelines.model.table import Mode, Table, TableName
from tests.lake.copies import ITEMS, Copy, columns

THREE = "SELECT i AS id, 'row ' || i AS name FROM range(1, 4) AS r(i)"


def test_a_table_without_commits_has_no_head(items: Copy) -> None:
    assert items.place.batches.head() is None


def test_a_copy_without_rows_is_an_empty_relation_of_the_right_types(items: Copy) -> None:
    items.copy(f"{THREE} LIMIT 0")
    assert items.rows() == []
    described = items.run(f"DESCRIBE {items.place.rows_sql(items.table)}")
    assert [row[:2] for row in described] == [("id", "BIGINT"), ("name", "VARCHAR")]
    assert items.place.files() == []


def test_the_latest_change_of_a_key_counts(items: Copy) -> None:
    items.copy(THREE)
    items.change("SELECT 2::BIGINT AS id, 'second' AS name", "SELECT 3::BIGINT AS id")
    items.change("SELECT 3::BIGINT AS id, 'back' AS name UNION ALL SELECT 4, 'new'")
    items.change("SELECT 2::BIGINT AS id, NULL::VARCHAR AS name", "SELECT 4::BIGINT AS id")
    assert items.rows() == [(1, "row 1"), (2, None), (3, "back")]


def test_a_later_change_within_one_batch_counts(items: Copy) -> None:
    items.copy(THREE)
    twice = "SELECT 1::BIGINT AS id, 'old' AS name UNION ALL SELECT 1, 'new'"
    files = items.upload(twice, op="u")
    entry = items.entry(Action.CHANGES, files=(files[0].path,))
    items.place.batches.commit(items.table, files, [entry], replace=Replace.NOTHING)
    assert items.rows()[0] == (1, "new")


def test_a_first_batch_of_deletes_alone_is_readable(items: Copy) -> None:
    items.copy(f"{THREE} LIMIT 0")
    head = items.change(deletes="SELECT 9::BIGINT AS id")
    assert items.rows() == []
    assert items.changes(head.entries[0].files) == [(9, None, "d")]


def test_changes_can_be_read_as_if_committed(items: Copy) -> None:
    items.copy(THREE)
    files = items.upload("SELECT 1::BIGINT AS id, 'soon' AS name", op="u")
    assert items.rows(extra=files)[0] == (1, "soon")
    assert items.rows()[0] == (1, "row 1")
    anew = items.upload("SELECT 7::BIGINT AS id, 'alone' AS name")
    assert items.rows(extra=anew, replaced=Replace.TABLE) == [(7, "alone")]


def test_changes_of_several_batches_give_the_latest_per_key(items: Copy) -> None:
    items.copy(THREE)
    first = items.change("SELECT 1::BIGINT AS id, 'a' AS name", "SELECT 2::BIGINT AS id")
    second = items.change("SELECT 2::BIGINT AS id, 'b' AS name", "SELECT 1::BIGINT AS id")
    files = first.entries[0].files + second.entries[0].files
    assert items.changes(files) == [(1, None, "d"), (2, "b", "u")]


def test_keys_are_compared_by_bytes_and_null_equals_null(make_copy: Callable[..., Copy]) -> None:
    table = replace(ITEMS, columns=columns(id="string", name="string"))
    copy = make_copy(table)
    copy.copy(
        "SELECT * FROM (VALUES ('a', '1'), ('A', '2'), ('a ', '3'), ('', '4'), (NULL, '5'), "
        "('e\u0301', '6'), ('\u00e9', '7')) AS v(id, name)"
    )
    copy.change(
        "SELECT * FROM (VALUES ('a', 'one'), (NULL, 'five'), ('\u00e9', 'seven')) AS v(id, name)"
    )
    found = dict(copy.rows())
    assert found == {
        "a": "one",
        "A": "2",
        "a ": "3",
        "": "4",
        None: "five",
        "e\u0301": "6",
        "\u00e9": "seven",
    }


def test_composite_keys(make_copy: Callable[..., Copy]) -> None:
    table = replace(ITEMS, columns=columns(a="long", b="string", v="string"), key=("b", "a"))
    copy = make_copy(table)
    copy.copy("SELECT * FROM (VALUES (1::BIGINT, 'x', 'k'), (1, 'y', 'k'), (2, 'x', 'k')) t(a,b,v)")
    copy.change("SELECT 1::BIGINT AS a, 'y' AS b, 'new' AS v", "SELECT 2::BIGINT AS a, 'x' AS b")
    assert copy.rows() == [(1, "x", "k"), (1, "y", "new")]


def test_versions_stay_readable(items: Copy) -> None:
    first = items.copy(THREE)
    second = items.change(deletes="SELECT 1::BIGINT AS id")
    items.copy("SELECT 5::BIGINT AS id, 'other' AS name")
    assert len(items.rows(version=first.version)) == 3
    assert items.rows(version=second.version) == [(2, "row 2"), (3, "row 3")]
    assert items.rows() == [(5, "other")]


def test_a_version_that_never_was_is_damage(items: Copy) -> None:
    items.copy(THREE)
    with pytest.raises(LakeDamaged, match=r"public\.items"):
        items.rows(version=17)


def test_partitions_are_read_alone(events: Copy) -> None:
    for key in ("2026-01-01", "", "infinity"):
        events.copy_partition(key, f"SELECT {len(key)}::BIGINT AS id, now() AS day")
    assert [row[0] for row in events.rows()] == [0, 8, 10]
    assert [row[0] for row in events.rows(partition="")] == [0]
    assert [row[0] for row in events.rows(partition="infinity")] == [8]
    assert events.rows(partition="2027-01-01") == []


def test_a_missing_file_is_named(items: Copy) -> None:
    items.copy(THREE)
    file = items.place.files()[0]
    items.place.discard([file])
    with pytest.raises(LakeDamaged) as caught:
        items.rows()
    assert "public.items" in str(caught.value)
    assert file.path in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"no Parquet at all" * 20, b"PAR1" + b"\0" * 60 + b"PAR1"]
)
def test_a_damaged_file_is_named(items: Copy, content: bytes) -> None:
    items.copy(THREE)
    file = items.place.files()[0]
    store = items.lake.store
    key = f"{items.place.uri.removeprefix(f's3://{store.bucket}/')}/{file.path}"
    store.client().put_object(Bucket=store.bucket, Key=key, Body=content)
    with pytest.raises(LakeDamaged) as caught:
        items.rows()
    assert "public.items" in str(caught.value)
    assert file.path in str(caught.value)


def test_damage_inside_a_file_is_found(items: Copy) -> None:
    items.copy("SELECT i AS id, md5(i::VARCHAR) AS name FROM range(20000) AS r(i)")
    file = items.place.files()[0]
    store = items.lake.store
    key = f"{items.place.uri.removeprefix(f's3://{store.bucket}/')}/{file.path}"
    content = bytearray(store.read(key) or b"")
    content[2000:300000:1000] = bytes(255 - byte for byte in content[2000:300000:1000])
    store.client().put_object(Bucket=store.bucket, Key=key, Body=bytes(content))
    with pytest.raises(LakeDamaged, match=r"public\.items"):
        items.rows()


def test_an_error_of_the_reader_is_not_the_lakes(items: Copy) -> None:
    items.copy(THREE)
    with pytest.raises(duckdb.ConversionException):
        items.run(f"SELECT name::INTEGER FROM ({items.place.rows_sql(items.table)})")


ODD_NAMES = (
    "plain",
    "Mixed Case",
    "select",
    'a"quote',
    "it's",
    "back\\slash",
    "dots.in.it",
    "comma,semi;colon",
    "{braces}(parens)=",
    "tab\tnew\nline",
    "größe",
    "名前",
    "😀",
    "filename",
    "file_row_number",
    "base",
    "changed",
    "col%20umn",
    "*",
    "id",
)


def test_column_names_of_every_kind(make_copy: Callable[..., Copy]) -> None:
    table = replace(ITEMS, columns=columns(**dict.fromkeys(ODD_NAMES, "long")))
    copy = make_copy(table)
    quoted = ", ".join(f"i AS {_quoted(name)}" for name in ODD_NAMES)
    copy.copy(f"SELECT {quoted} FROM range(3) AS r(i)")
    copy.change(f"SELECT {quoted} FROM range(3, 5) AS r(i)", "SELECT 0::BIGINT AS id")
    expected = [(i,) * len(ODD_NAMES) for i in range(1, 5)]
    assert copy.rows() == expected
    assert copy.place.fold(table) is not None
    assert copy.rows() == expected
    assert [f.name for f in copy.delta().schema().fields if f.name in ODD_NAMES] == list(ODD_NAMES)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize(
    "name",
    ["..", ".", "a/b", "a b", "ünï", "_syncs", "_delta_log", "a%2fb", "a.2fb", "~x", "*?[x]", "#"],
)
def test_table_names_of_every_kind(make_copy: Callable[..., Copy], name: str) -> None:
    copy = make_copy(replace(ITEMS, name=TableName(name, name)))
    copy.copy(THREE)
    copy.lake.journal.append([copy.entry(Action.COPY)], "run")
    assert len(copy.rows()) == 3


def test_names_that_look_alike_do_not_meet(make_copy: Callable[..., Copy]) -> None:
    names = ["a/b", "a.2fb", "a b", "a.20b", "A b", "a_b"]
    for number, name in enumerate(names):
        copy = make_copy(replace(ITEMS, name=TableName("s", name)))
        copy.copy(f"SELECT {number}::BIGINT AS id, '' AS name")
    for number, name in enumerate(names):
        assert make_copy(replace(ITEMS, name=TableName("s", name))).rows() == [(number, "")]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("id", "_rp_op"), "_rp_op"),
        (("id", "_RP_mine"), "_RP_mine"),
        (("id", "Name", "name"), "Name"),
    ],
)
def test_names_that_would_collide_are_refused(
    make_copy: Callable[..., Copy], names: tuple[str, ...], said: str
) -> None:
    copy = make_copy(replace(ITEMS, columns=columns(**dict.fromkeys(names, "long"))))
    with pytest.raises(DeclarationError, match=rf"public\.items.*{said}"):
        copy.place.batches.commit(copy.table, [], [copy.entry(Action.COPY)], replace=Replace.TABLE)
    assert copy.place.batches.head() is None


def test_a_key_that_is_no_column_is_refused(make_copy: Callable[..., Copy]) -> None:
    copy = make_copy(replace(ITEMS, key=("nope",)))
    with pytest.raises(ColumnNotFound, match="nope"):
        copy.place.batches.commit(copy.table, [], [copy.entry(Action.COPY)], replace=Replace.TABLE)


def test_a_table_without_columns_still_has_rows(make_copy: Callable[..., Copy]) -> None:
    table = Table(TableName("public", "nothing"), "1", (), (), Mode.FULL)
    copy = make_copy(table)
    stamped = (
        "SELECT 'r' AS _rp_op, 1::BIGINT AS _rp_batch, i AS _rp_seq, 1::BIGINT AS _rp_position,"
        " now() AS _rp_time FROM range(4) AS r(i)"
    )
    files = copy.place.upload([copy.parquet(stamped)], layer="base", batch=1)
    copy.place.batches.commit(table, files, [copy.entry(Action.COPY)], replace=Replace.TABLE)
    assert len(copy.rows()) == 4


def test_a_thousand_columns(make_copy: Callable[..., Copy]) -> None:
    names = ["id", *(f"column_{number}" for number in range(999))]
    copy = make_copy(replace(ITEMS, columns=columns(**dict.fromkeys(names, "long"))))
    copy.copy("SELECT " + ", ".join(f"7::BIGINT AS {name}" for name in names))
    copy.change("SELECT " + ", ".join(f"8::BIGINT AS {name}" for name in names))
    assert [row[:2] for row in copy.rows()] == [(7, 7), (8, 8)]
