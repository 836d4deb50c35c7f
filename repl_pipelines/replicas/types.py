"""From the lake's types to a replica's: conversion SQL, and the forms of what a replica holds."""

from repl_pipelines.model.column import Column
from repl_pipelines.model.sql import quote
from repl_pipelines.proof.canonical import duckdb_text
from repl_pipelines.proof.canonical import postgres_canonical as _postgres_canonical
from repl_pipelines.proof.checksum import Form


def duckdb_replica_expression(column: Column, expression: str) -> str:
    """DuckDB SQL: a value of the lake as a value of the column's type in a DuckDB replica."""
    return f"{expression}::{column.duckdb_type}"


def postgres_text_expression(column: Column, expression: str) -> str:
    """DuckDB SQL: a value of the lake as the text PostgreSQL's input function restores it from.

    The reading session runs under `proof.canonical.POSTGRES_SETTINGS`.
    """
    return duckdb_text(column, expression)


def postgres_canonical(column: Column, alias: str = "") -> Form:
    """PostgreSQL SQL: the form of what a PostgreSQL replica (in UTF8) holds in this column."""
    name = f"{alias}.{quote(column.name)}" if alias else quote(column.name)
    return _postgres_canonical(column, name, column.postgres_type)
