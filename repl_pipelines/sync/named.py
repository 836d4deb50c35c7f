"""Tables of a replication as people name them: by name or pattern, as in declarations."""

from collections.abc import Collection

from repl_pipelines.errors import TableNotFound
from repl_pipelines.model.table import Declaration, TableName
from repl_pipelines.sync.engine import Replication


def named(replication: Replication, names: Collection[str]) -> list[TableName] | None:
    """The tables that the names mean, by the source's own rules; None for no names.

    Those that cannot be replicated now are among them, so that their problem is told. Raises
    TableNotFound for a name that means none of the replication's tables.
    """
    if not names:
        return None
    survey = replication.source.survey(replication.declarations)
    own = {*(table.name for table in survey.tables), *survey.problems}
    found: set[TableName] = set()
    for name in names:
        meant = replication.source.survey([Declaration(name)])
        absent = (e for e in meant.problems.values() if isinstance(e, TableNotFound))
        for error in absent:
            raise error
        chosen = own & {*(table.name for table in meant.tables), *meant.problems}
        if not chosen:
            raise TableNotFound(
                f"{name!r} means no table of replication {replication.name!r}.",
                f"It has: {', '.join(sorted(map(str, own)))}.",
            )
        found |= chosen
    return sorted(found)
