"""Names of tables and partitions as parts of object keys: readable, unique, safe."""

import re
import uuid

from repl_pipelines.model.table import TableName

# Delta's and DuckDB's clients encode other characters in ways that do not agree with boto3's.
_SAFE = re.compile(r"[A-Za-z0-9_-]")
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def segment(name: str) -> str:
    """One path segment for a name; different names give different segments.

    Characters outside [A-Za-z0-9_-] become `.xx` per UTF-8 byte, and so does a leading `_`,
    which belongs to our own folders.
    """
    text = "".join(c if _SAFE.match(c) else _escaped(c) for c in name)
    return _escaped("_") + text[1:] if text.startswith("_") else text


def _escaped(character: str) -> str:
    return "".join(f".{byte:02x}" for byte in character.encode())


def source_location(source: str) -> str:
    """The folder of a source, below the lake's prefix."""
    return segment(source)


def table_location(source: str, table: TableName) -> str:
    """Where a table's copy lies, below the lake's prefix."""
    return f"{segment(source)}/{segment(table.schema)}/{segment(table.name)}"


def journal_location(source: str) -> str:
    """Where a source's journal lies; no schema's folder begins with `_`."""
    return f"{segment(source)}/_syncs"


def differences_location(source: str) -> str:
    """Where what proofs found to differ lies."""
    return f"{segment(source)}/_differences"


def evidence_location(source: str, table: TableName) -> str:
    """Where the records of a table's proofs lie."""
    return f"{segment(source)}/_evidence/{segment(table.schema)}/{segment(table.name)}"


def data_path(layer: str, partition: str, batch: int) -> str:
    """A new file's path relative to its table, laid out as Hive partitions."""
    folder = segment(partition) if partition else NO_PARTITION
    return f"_rp_layer={layer}/_rp_partition={folder}/b{batch:08d}-{uuid.uuid4().hex}.parquet"


def plain_prefix(prefix: str) -> bool:
    """Whether a prefix means the same key to every client."""
    parts = prefix.strip("/").split("/")
    return prefix == "" or all(re.fullmatch(r"(?!\.+$)[A-Za-z0-9_.-]+", part) for part in parts)
