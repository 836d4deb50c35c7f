"""The table `every`: a column of each type, filled with the same values each time."""

from __future__ import annotations

from itertools import cycle, islice

import hypothesis
import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.types.catalogue import SETUP, TYPES

ROWS = 60


def drawn(values: st.SearchStrategy[str]) -> list[str | None]:
    """The same ROWS values of a type each time."""
    found: list[str | None] = []

    @settings(
        max_examples=ROWS,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(st.none() | values)
    def collect(value: str | None) -> None:
        found.append(value)

    collect()
    return list(islice(cycle(found), ROWS))


COLUMNS = {f"c{number}": kind for number, kind in enumerate(TYPES)}
_DEFINED = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
CREATE = f"{SETUP}; create table every (id int primary key, {_DEFINED})"


def fill(connection: psycopg.Connection) -> None:
    """Rows 0 to ROWS - 1."""
    casts = ", ".join(f"(%s::text)::{kind}" for kind in COLUMNS.values())
    rows = list(zip(*(drawn(TYPES[kind]) for kind in COLUMNS.values()), strict=True))
    insert = f"insert into every values (%s, {casts})".encode()
    with connection.cursor() as cursor:
        cursor.executemany(insert, [(number, *row) for number, row in enumerate(rows)])
