"""How declarations apply to the tables that a source's catalog has; the same for every source."""

import difflib
import fnmatch
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from repl_pipelines.errors import (
    ColumnNotFound,
    CursorUnusable,
    DeclarationError,
    ReplicationError,
    TableNotFound,
)
from repl_pipelines.model.column import Column, Policy, is_pattern
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.sources.horizon import TIMES, USABLE


class Relation(Protocol):
    """What a catalog says of a table.

    identity: changes when it is re-created under its name
    pickable: by a pattern, not only by its name
    rows, bytes: estimates
    """

    @property
    def name(self) -> TableName: ...
    @property
    def identity(self) -> str: ...
    @property
    def pickable(self) -> bool: ...
    @property
    def rows(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def comment(self) -> str: ...


Found = TypeVar("Found", bound=Relation)


def choose(
    relations: Sequence[Found],
    source: str,
    declarations: Sequence[Declaration],
    default_schema: str,
) -> tuple[list[tuple[Found, Declaration]], dict[TableName, ReplicationError]]:
    """Which declaration applies to which relation; a name that matches nothing is a problem."""
    chosen: dict[TableName, tuple[Found, Declaration]] = {}
    problems: dict[TableName, ReplicationError] = {}
    spelled: dict[str, list[Found]] = defaultdict(list)  # thousands may be declared by their names
    for r in relations:
        for spelling in r.name.spellings(default_schema):
            spelled[spelling].append(r)
    for declaration in sorted(declarations, key=lambda d: not d.is_pattern):
        if declaration.is_pattern:
            matches = (r for r in relations if declaration.matches(r.name, default_schema))
            found = [r for r in matches if r.pickable]
        else:
            found = spelled[declaration.name]
        if not found:
            schema, _, name = declaration.name.rpartition(".")
            missing = TableName(schema or default_schema, name)
            problems[missing] = _not_found(relations, source, declaration)
        chosen.update({r.name: (r, declaration) for r in found})
    return [chosen[name] for name in sorted(chosen)], problems


def _not_found(
    relations: Sequence[Relation], source: str, declaration: Declaration
) -> TableNotFound:
    names = [str(r.name) for r in relations] + [r.name.name for r in relations]
    near = difflib.get_close_matches(declaration.name, names, 3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "Check the name, schema and case."
    what = "no table matches the pattern" if declaration.is_pattern else "there is no table"
    return TableNotFound(f"Source {source!r}: {what} {declaration.name!r}.", hint)


def check_policies_named(
    table: TableName, declaration: Declaration, columns: Sequence[str]
) -> None:
    """Raise ColumnNotFound for a policy of a column that the table has not.

    A pattern may match nothing in some of many tables; in one that is declared by its name it is a
    typing error, which would leave a column unprotected.
    """
    for name in sorted(declaration.policies):
        found = name in columns or any(fnmatch.fnmatchcase(column, name) for column in columns)
        if not found and not (is_pattern(name) and declaration.is_pattern):
            raise _no_column(table, name, columns)


def resolve(
    relation: Relation,
    declaration: Declaration,
    columns: tuple[Column, ...],
    candidates: Sequence[tuple[str, ...]],
    misfit: Callable[[Column], str | None],
) -> Table:
    """The table that a declaration makes of a relation.

    columns:    all of them, those that are dropped, too
    candidates: keys that the source keeps unique and not NULL, the best first
    misfit:     whether some values of a column have no place
    """
    by_name = {c.name: c for c in columns}
    key = declaration.key
    if key is None:
        key = candidates[0] if candidates else ()
    partition = declaration.partition
    for name in (*key, declaration.cursor, partition.column if partition else None):
        if name is not None and name not in by_name:
            raise _no_column(relation.name, name, list(by_name))
    mode = _mode(relation.name, declaration, key)
    _check_protected(relation.name, [by_name[name] for name in key])
    if mode is Mode.CURSOR and declaration.cursor:
        _check_cursor(relation.name, by_name[declaration.cursor])
    if mode is Mode.PARTITION and partition:
        _check_partition(relation.name, by_name[partition.column])
    placed_by = (*key, partition.column if partition else "")
    _check_policies(relation.name, [c for c in columns if c.name in placed_by], misfit)
    return Table(
        name=relation.name,
        identity=relation.identity,
        columns=tuple(c for c in columns if c.policy is not Policy.DROP),
        key=key,
        mode=mode,
        cursor=declaration.cursor if mode is Mode.CURSOR else None,
        partition=partition if mode is Mode.PARTITION else None,
        deletes=declaration.deletes,
        rows=relation.rows,
        bytes=relation.bytes,
        comment=relation.comment,
        key_enforced=any(set(c) == set(key) for c in candidates),
        dropped=tuple(c.name for c in columns if c.policy is Policy.DROP),
    )


def _mode(name: TableName, declaration: Declaration, key: tuple[str, ...]) -> Mode:
    implied = (
        Mode.PARTITION
        if declaration.partition
        else Mode.CURSOR
        if declaration.cursor
        else Mode.FULL
    )
    mode = declaration.mode or implied
    if mode is Mode.CURSOR and not declaration.cursor:
        raise DeclarationError(f"{name}: mode cursor needs a cursor column.", "Set `cursor`.")
    if mode is Mode.PARTITION and not declaration.partition:
        raise DeclarationError(f"{name}: mode partition needs a time.", "Set `partition: {column}`")
    if mode is Mode.CURSOR and not key:
        raise DeclarationError(
            f"{name}: mode cursor needs a key, and the table has no primary key or unique index on"
            " columns that are NOT NULL.",
            "Name the key columns under `key`, or use mode full or partition.",
        )
    return mode


def _check_protected(table: TableName, key: Sequence[Column]) -> None:
    """A hash tells rows apart; one mask for all of them does not."""
    for column in key:
        if column.policy in (Policy.MASK, Policy.DROP):
            raise DeclarationError(
                f"{table}: column {column.name!r} is part of the key; with the policy"
                f" `{column.policy}` rows could not be told apart.",
                "Use policy `hash`, which keeps them apart and can be joined by, or name other"
                " columns under `key`.",
            )


def _check_cursor(table: TableName, column: Column) -> None:
    if column.policy.protects:
        raise CursorUnusable(
            f"{table}: cursor column {column.name!r} has the policy `{column.policy}`, which leaves"
            " nothing of its order.",
            "Choose another cursor column or policy, or mode full, partition or log.",
        )
    if column.family not in USABLE:
        raise CursorUnusable(
            f"{table}: cursor column {column.name!r} is of type {column.source_type}"
            f"{_kept_as_text(column)}; only timestamps, dates and integers from a sequence can tell"
            " what changed since.",
            "Choose another cursor column, or mode full or partition.",
        )


def _check_partition(table: TableName, column: Column) -> None:
    if column.policy.protects:
        raise DeclarationError(
            f"{table}: partition column {column.name!r} has the policy `{column.policy}`, which"
            " leaves nothing to cut partitions by.",
            "Choose another partition column or policy, or mode full or log.",
        )
    if column.family not in TIMES:
        raise DeclarationError(
            f"{table}: partition column {column.name!r} is of type {column.source_type}"
            f"{_kept_as_text(column)}; it must be a date or timestamp.",
            "Choose another partition column, or mode full.",
        )


def _kept_as_text(column: Column) -> str:
    return " (kept as text by its policy)" if column.policy is Policy.TEXT else ""


def _check_policies(
    table: TableName, columns: Sequence[Column], misfit: Callable[[Column], str | None]
) -> None:
    """Rows whose key or time became NULL could not be told apart, or found again."""
    for column in columns:
        if column.policy is Policy.NULL and misfit(column):
            raise DeclarationError(
                f"{table}: column {column.name!r} is part of the key or the partition column; its"
                " policy cannot be `null`.",
                "Use policy `fail`, or `text` for a key column.",
            )


def _no_column(table: TableName, column: str, names: Sequence[str]) -> ColumnNotFound:
    near = difflib.get_close_matches(column, names, 3)
    return ColumnNotFound(
        f"{table}: there is no column {column!r}.",
        f"Did you mean {' or '.join(near)}?" if near else "Check the name and its case.",
    )
