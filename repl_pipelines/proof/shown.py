"""Values of rows as people see them in reports, made from their canonical forms.

Every value that a report or its evidence shows comes through `shown`: this is the one place where
a column's policy will decide whether it may be seen.
"""

import struct

from repl_pipelines.model.column import Column, Family
from repl_pipelines.model.table import Table

LENGTH = 200  # characters of a form that are fetched
_ROW = 500  # characters of a row shown as a whole


def shown(column: Column, form: str) -> str | None:
    """The value with this canonical form (its first LENGTH characters); None for NULL."""
    match column.family:
        case Family.TEXT:
            return _text(form)
        case _ if form == "":
            return None
        case (Family.FLOAT4 | Family.FLOAT8) as family if form != "NaN":
            code = ">f" if family is Family.FLOAT4 else ">d"
            return repr(struct.unpack(code, bytes.fromhex(form))[0])
        case _:
            return form if len(form) < LENGTH else f"{form}…"


def shown_row(table: Table, forms: list[str], names: tuple[str, ...] = ()) -> str:
    """`a=1, b=x` of these columns, or of all."""
    pairs = zip(table.columns, forms, strict=True)
    values = ((c.name, shown(c, form)) for c, form in pairs if not names or c.name in names)
    text = ", ".join(f"{name}={'NULL' if value is None else value}" for name, value in values)
    return text if len(text) <= _ROW else f"{text[:_ROW]}…"


def _text(form: str) -> str | None:
    size, _, text = form.partition(":")
    if not size:
        return None
    return text if len(text.encode()) == int(size) else f"{text}… ({int(size):,} bytes)"
