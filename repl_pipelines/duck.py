"""DuckDB sessions with the extensions this project ships, loaded by path, signed, never fetched."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import duckdb

from repl_pipelines.model.column import Column, Family

ROW_GROUP_BYTES = 16 * 2**20
# Extensions that DuckDB has verified and loaded in this process, and their files' state then. It
# takes a quarter to half a second of CPU, and each database would do it again.
_VERIFIED: dict[Path, tuple[int, ...]] = {}
_TYPES = {
    "short": "SMALLINT",
    "integer": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "timestamp_ntz": "TIMESTAMP",
}


@dataclass(frozen=True)
class Limits:
    """Bounds of one engine session. memory: bytes; threads: workers; directory: spill files."""

    memory: int = 384 * 2**20
    threads: int = 2
    directory: Path | None = None


def connect(
    extensions: tuple[str, ...] = (),
    database: str | Path = ":memory:",
    *,
    limits: Limits | None = None,
    read_only: bool = False,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection in UTC, bounded by `limits`, with `extensions` loaded."""
    limits = limits or Limits()
    files = {file: _state(file) for file in map(_extension_file, extensions)}
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "memory_limit": f"{limits.memory // 2**20}MiB",
        "threads": str(limits.threads),
        # Row groups are cut by size only then; no reader here depends on file order.
        "preserve_insertion_order": "false",
        # What was freed goes back to the machine at once, not from half a gigabyte on.
        "allocator_flush_threshold": "32MiB",
        "allocator_bulk_deallocation_flush_threshold": "32MiB",
        # What a join keeps in memory is what stands on its right: with us keys, never whole rows.
        "disabled_optimizers": "build_side_probe_side",
        # What this process runs already was verified when it was first loaded.
        "allow_unsigned_extensions": str(files.items() <= _VERIFIED.items()).lower(),
    }
    if limits.directory:
        config["temp_directory"] = str(limits.directory)
    session = duckdb.connect(str(database), read_only=read_only, config=config)
    _set(session)
    for file in files:
        session.execute(f"LOAD '{file}'")
    session.execute("SET allow_unsigned_extensions = false")
    _VERIFIED.update(files)
    return session


def duckdb_type(lake_type: str) -> str:
    """The DuckDB type in which a lake (Delta) type is read, as DuckDB itself writes it."""
    return _TYPES.get(lake_type) or lake_type.replace(" ", "").upper()


def parquet_options(columns: Iterable[Column]) -> str:
    """How to write these columns with COPY; every value keeps its bits.

    DuckDB 1.5.5 finds -0 in a dictionary where it put 0: beside floating point no dictionary is
    used. Row groups are cut by size, as a writer holds a whole one in memory.
    """
    floats = any(column.family in {Family.FLOAT4, Family.FLOAT8} for column in columns)
    dictionary = ", DICTIONARY_SIZE_LIMIT 0" if floats else ""
    return (
        "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1,"
        f" ROW_GROUP_SIZE_BYTES {ROW_GROUP_BYTES}{dictionary}"
    )


class Instance:
    """One DuckDB shared by many sessions: one memory bound, extensions loaded once and late."""

    def __init__(
        self,
        extensions: tuple[str, ...],
        limits: Limits | None = None,
        prepare: Callable[[duckdb.DuckDBPyConnection], object] = lambda _: None,
    ) -> None:
        self._extensions = extensions
        self._limits = limits
        self._prepare = prepare
        self._lock = threading.Lock()
        self._root: duckdb.DuckDBPyConnection | None = None

    def session(self) -> duckdb.DuckDBPyConnection:
        """A session of its own; the caller closes it. Threads may each have one."""
        with self._lock:
            if self._root is None:
                root = connect(self._extensions, limits=self._limits)
                self._prepare(root)
                self._root = root
            session = self._root.cursor()
        _set(session)
        return session


def _set(session: duckdb.DuckDBPyConnection) -> None:
    """What holds for one session only."""
    session.execute("SET TimeZone = 'UTC'")
    # Else few rows that pass a filter or a join wait for more, up to 2,048: wide ones fill memory.
    session.execute("SET enable_caching_operators = false")


def _extension_file(name: str) -> Path:
    """The signed binary in the wheel `duckdb-extension-<name>` of DuckDB's own version."""
    spec = find_spec(f"duckdb_extension_{name}")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"The DuckDB extension {name!r} is not installed: "
            f"pip install duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"


def _state(file: Path) -> tuple[int, ...]:
    """Other than before if the file was replaced or written to."""
    found = file.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
