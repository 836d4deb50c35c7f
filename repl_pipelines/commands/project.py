"""How a command finds its replication: through the definitions that Dagster loads, and no run."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repl_pipelines.errors import DeclarationError, ReplicationError
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import Table
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.sources.contract import Source
from repl_pipelines.sync.engine import Replication as Engine
from repl_pipelines.sync.named import named
from repl_pipelines.sync.report import Report

if TYPE_CHECKING:  # it brings Dagster along, which takes two seconds
    from repl_pipelines.orchestration.connections import Connections
    from repl_pipelines.replication import Replication


def in_project(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option --project of a command that names a replication."""
    return click.option(
        "--project",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=Path(),
        help="The project's directory, or one in it.  [default: the current one]",
    )(function)


def some_tables(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option --table of a command that can do with some of the tables."""
    return click.option(
        "--table",
        "tables",
        multiple=True,
        metavar="TABLE",
        help="Only this table, or those that the pattern means; can be given several times.",
    )(function)


@dataclass(frozen=True)
class Declared:
    """One replication of the project; each of its ends is put together when it is asked for.

    Raises SecretMissing for an environment variable that the end needs, DeclarationError.
    """

    component: "Replication"

    @property
    def name(self) -> str:
        return self.component.source

    def source(self) -> Source:
        return self._connections.source_end(self.name)

    def lake(self, key: str = "") -> Lake:
        """The declared one, or that of another resource."""
        if not key:
            return self._connections.lake_end(self.component.lake, self.name)
        return self.component.connections(lake=key).lake_end(key, self.name)

    def replica(self, name: str) -> Replica:
        return self._connections.replica_end(name, self.name)

    def replicas(self) -> dict[str, Replica]:
        return {name: self.replica(name) for name in self.component.replicas}

    def engine(self, progress: Report = lambda _: None) -> Engine:
        """The engine, as a step in Dagster has it."""
        return Engine(
            self.name,
            self.source(),
            self.lake(),
            list(self.replicas().values()),
            self.component.declarations(),
            fold=self.component.fold.policy,
            period=self.component.period,
            progress=progress,
        )

    @cached_property
    def _connections(self) -> "Connections":
        return self.component.connections()


def declared(project: Path, name: str) -> Declared:
    """The replication with this name, in the project that has the directory `project`.

    Raises DeclarationError.
    """
    found = _components(_entered(project))
    for component in found:
        if component.source == name:
            component.check()
            return Declared(component)
    names = ", ".join(sorted(component.source for component in found)) or "none"
    raise DeclarationError(f"There is no replication {name!r} here.", f"There is: {names}.")


def one_table(engine: Engine, name: str) -> Table:
    """The table with this name, as the source has it now. Raises DeclarationError."""
    names = named(engine, [name])
    if names is None or len(names) > 1:
        raise DeclarationError(f"{name!r} means several tables.", "Name one of them.")
    survey = engine.source.survey(engine.declarations)
    if names[0] in survey.problems:
        raise survey.problems[names[0]]
    return next(table for table in survey.tables if table.name == names[0])


def _entered(project: Path) -> Path:
    """The project's root: from here on as for a run, relative paths are those from there."""
    from dagster._core.secrets.env_file import get_env_var_dict
    from dagster_shared.utils.config import discover_config_file

    config = discover_config_file(project)
    if config is None:
        raise DeclarationError(
            f"{project.absolute()} is not in a project: no pyproject.toml with [tool.dg.project].",
            "Run the command in the project, or name its directory with --project.",
        )
    root = config.parent
    for name, value in get_env_var_dict(str(root)).items():
        os.environ.setdefault(name, value)
    os.chdir(root)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return root


def _components(root: Path) -> Sequence["Replication"]:
    from dagster.components.core.component_tree import ComponentTree

    from repl_pipelines.replication import Replication

    try:
        return ComponentTree.for_project(root).get_all_components(of_type=Replication)
    except Exception as error:
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, ReplicationError):
                raise cause from error
        what = " ".join(str(causes[-1]).split())
        raise DeclarationError(
            f"The definitions in {root} cannot be loaded: {what}", "`dg check yaml` says more."
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
