"""Errors of a declaration, with the file, line and field of the YAML they are about."""

from collections.abc import Sequence

import dagster as dg

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
    field = ".".join(str(part) for part in ("attributes", *path))
    tree = getattr(context.component_decl, "source_tree", None)
    if tree is None:  # built in Python
        return DeclarationError(f"{field}: {error.what}", error.remedy)
    whole = tree.source_position_tree
    position, _ = whole.lookup_closest_and_path(["attributes", *path], None)
    return DeclarationError(f"{position}, {field}: {error.what}", error.remedy)
