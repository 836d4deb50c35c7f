"""What failed while the rest was done, as JSON and as a person reads it."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.padding import Padding
from rich.text import Text

from repl_pipelines.commands.output import error_document
from repl_pipelines.errors import ReplicationError


def failures_document(failed: Mapping[str, ReplicationError]) -> list[dict[str, Any]]:
    """failed: by table or replica."""
    return [{"of": of, **error_document(error)} for of, error in failed.items()]


def failures_drawn(failed: Mapping[str, ReplicationError]) -> Iterator[Text | Padding]:
    """Each with its remedy."""
    for of, error in failed.items():
        yield Text(f"\n{of} failed: {type(error).__name__}", style="red")
        yield Padding(Text(f"{error.what} {error.remedy}".rstrip()), (0, 0, 0, 2))
