"""Copies to be damaged, and what a comparison finds in them."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache, cached_property

import duckdb

from repl_pipelines.model.difference import Kind
from repl_pipelines.model.selection import Buckets
from repl_pipelines.model.table import Table
from repl_pipelines.proof.bisect import Depth, bisect, found
from repl_pipelines.proof.relation import Relation, duckdb_relation
from repl_pipelines.replicas import postgres_rows
from repl_pipelines.replicas.postgres_session import Connection

ROOTS = Buckets((0,), 1)
Wrong = set[tuple[Kind, str, str]]


@dataclass
class Lab:
    """Equal rows in three places: a reference, and two copies to be damaged.

    connection: to a PostgreSQL database that has the table, for statements that are rolled back
    """

    table: Table
    session: duckdb.DuckDBPyConnection
    connection: Connection

    @cached_property
    def reference(self) -> Relation:
        """What it answers is kept: it is asked the same in most trials, and stays as it is."""
        relation = duckdb_relation(self.session, self.table, "reference")
        return replace(relation, fetch=cache(lambda query: list(relation.fetch(query))))

    def damaged(self, seed: int, statements: list[str]) -> Relation:
        """A copy in one of the two engines, after these statements over {t}, and {p} undamaged."""
        if seed % 2:
            copied = "CREATE OR REPLACE TABLE copy AS FROM reference"
            self.session.execute("; ".join([copied, *statements]).format(t="copy", p="reference"))
            return duckdb_relation(self.session, self.table, "copy")
        self.connection.rollback()
        names = {"t": f"public.{self.table.name.name}", "p": "public.pristine"}
        self.connection.execute("; ".join(statements).format(**names).encode())
        return postgres_rows.relation(self.connection, self.table)


def differing(lab: Lab, copy: Relation, dice: random.Random, rows: int) -> Wrong:
    """What a bisection finds; rows: that are known to differ, the fewest it must follow."""
    fanout, bound = dice.choice([4, 64]), max(3 * rows, dice.choice([10, 40, 1000, 1000]))
    depth = Depth(fanout=fanout, rows=bound, listed=10_000)
    leaves = bisect(lab.table, lab.reference, copy, ROOTS, depth)
    assert not leaves.rest
    outcome = found(lab.table, leaves)
    wrong = {(one.kind, one.key, one.column) for one in outcome.listed}
    assert outcome.rows == len({(kind, key) for kind, key, _ in wrong})
    return wrong
