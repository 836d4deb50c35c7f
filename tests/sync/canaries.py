"""Canaries: values that must not be found in anything we write, say or raise, in any writing."""

from __future__ import annotations

import base64
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sync.conftest import Bench


class Canaries:
    """Texts that are searched for as they are, and as other writings of their bytes."""

    def __init__(self, *texts: str) -> None:
        self._wanted = {writing: text for text in texts for writing in _writings(text)}
        self.searched = 0
        self.found: list[str] = []

    def look(self, where: str, content: bytes | str) -> None:
        """Note what is found; searched counts bytes, so that a test can tell that it looked."""
        content = content if isinstance(content, bytes) else content.encode()
        self.searched += len(content)
        self.found += [f"{t} in {where}" for w, t in self._wanted.items() if w in content]

    def look_into(self, where: str, content: bytes) -> None:
        """A file's bytes, and what it decompresses to."""
        self.look(where, content)
        if content[:4] == b"PAR1":
            self.look(where, repr(pq.read_table(pa.BufferReader(content)).to_pylist()))

    def look_at_error(self, error: BaseException) -> None:
        """All that a log shows of an error, its causes too."""
        self.look(f"the error {error}", "".join(traceback.format_exception(error)))

    def look_everywhere(self, bench: Bench, duck: Path, replica: str) -> None:
        """The lake with journal and evidence, and both replicas."""
        for key in bench.store.keys(""):
            content = bench.store.read(key)
            if content:
                self.look_into(key, content)
        with psycopg.connect(replica) as connection:
            tables = connection.execute(
                "select format('%I.%I', schemaname, tablename) from pg_tables"
                " where schemaname not in ('pg_catalog', 'information_schema')"
            ).fetchall()
            for (table,) in tables:
                rows = connection.execute(f"select t::text from {table} t".encode()).fetchall()
                self.look(f"replica {table}", repr(rows))
        for file in filter(Path.is_file, duck.rglob("*")):
            self.look(file.name, file.read_bytes())
        with duckdb.connect(duck / "duck.duckdb", read_only=True) as session:
            named = session.execute("select schema_name, table_name from duckdb_tables()")
            for schema, name in named.fetchall():
                rows = session.execute(f'from "{schema}"."{name}"').fetchall()
                self.look(f"replica {name}", repr(rows))

    @contextmanager
    def watching_scratch(self) -> Iterator[None]:
        """Look into every local file before it is deleted."""
        rmtree, unlink = shutil.rmtree, Path.unlink

        def looked(path: Path) -> None:
            for file in [path] if path.is_file() else filter(Path.is_file, path.rglob("*")):
                self.look_into(f"scratch {file.name}", file.read_bytes())

        def watched_rmtree(path: Path, **options: bool) -> None:
            looked(Path(path))
            rmtree(path, **options)

        def watched_unlink(path: Path, **options: bool) -> None:
            looked(path)
            unlink(path, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shutil, "rmtree", watched_rmtree)
            patch.setattr(Path, "unlink", watched_unlink)
            yield

    def assert_none(self) -> None:
        assert self.searched > 0
        assert self.found == []


def _writings(text: str) -> list[bytes]:
    plain = text.encode()
    found = [plain, plain.hex().encode(), plain.hex().upper().encode()]
    # In base64 bytes have three alignments; the ends depend on what is beside.
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + plain)
        found.append(coded[4 if shift else 0 : len(coded) - 4])
    return found
