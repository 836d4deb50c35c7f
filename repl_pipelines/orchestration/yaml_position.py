"""Errors of a declaration, with the file, line and field of the YAML they are about."""

from collections.abc import Sequence

import dagster as dg
from dagster_shared.yaml_utils.source_position import SourcePositionTree

from repl_pipelines.errors import DeclarationError, ReplicationError


class WrongField(DeclarationError):
    """A field's value is no good; `path` leads to it from `attributes`."""

    def __init__(self, path: Sequence[str | int], what: str, remedy: str) -> None:
        self.path = path
        super().__init__(what, remedy)


def located(
    context: dg.ComponentLoadContext, path: Sequence[str | int], error: ReplicationError
) -> DeclarationError:
    """The same error, saying where in the YAML its cause is."""
    source = getattr(context.component_decl, "source_tree", None)  # none when built in Python
    where = described(source.source_position_tree if source else None, path)
    return DeclarationError(f"{where}: {error.what}", error.remedy)


def described(tree: SourcePositionTree | None, path: Sequence[str | int]) -> str:
    """`<file>:<line>, attributes.<field>`."""
    whole = ["attributes", *path]
    field = ".".join(str(part) for part in whole)
    if tree is None:
        return field
    position, _ = tree.lookup_closest_and_path(whole, None)
    return f"{position}, {field}"
