"""What the catalog says of columns that the log does not: character sets, and what is computed."""

from collections.abc import Callable, Mapping

from repl_pipelines.model.table import TableName
from repl_pipelines.sources.mariadb.connection import Connection, rows

Decode = Callable[[bytes], str]

# One table at a time: of all at once, the server would open every table that it has.
_COMPUTED = """
select column_name, extra like '%%STORED%%' from information_schema.columns
where table_schema = %s and table_name = %s
  and (extra like '%%VIRTUAL GENERATED%%' or extra like '%%STORED GENERATED%%')
"""
_SINGLE_BYTE = """
select character_set_name from information_schema.character_sets
where maxlen = 1 and character_set_name <> 'binary'
"""
UTF8 = frozenset({"utf8mb3", "utf8mb4", "ascii"})


def computed(connection: Connection, table: TableName) -> Mapping[str, bool]:
    """The columns that the server computes, and whether it stores them."""
    found = rows(connection, _COMPUTED, table.schema, table.name)
    return {str(name): bool(stored) for name, stored in found}


def decoders(connection: Connection) -> Mapping[str, Decode]:
    """By character set, how its texts are decoded; other sets' texts are not told.

    Of sets with one byte a character the server itself is asked for the 256 characters. What they
    raise is a UnicodeError.
    """
    every = bytes(range(256)).hex()
    sets = [str(name) for (name,) in rows(connection, _SINGLE_BYTE)]
    texts = ", ".join(f"convert(_{charset} x'{every}' using utf8mb4)" for charset in sets)
    [found] = rows(connection, f"select {texts}")
    single = {name: _single_byte(str(text)) for name, text in zip(sets, found, strict=True)}
    return {**single, **dict.fromkeys(UTF8, bytes.decode)}


def _single_byte(characters: str) -> Decode:
    table = dict(enumerate(characters))
    none = bytes(n for n, char in enumerate(characters) if char == "?" and n != ord("?"))

    def decode(value: bytes) -> str:
        if len(value.translate(None, none)) < len(value):
            raise UnicodeError("a byte stands for no character")
        return value.decode("latin-1").translate(table)

    return decode
