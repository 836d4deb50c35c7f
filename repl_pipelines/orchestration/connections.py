"""The resources a declaration names, found before any run needs them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TypeVar

from dagster import DagsterInvalidConfigError

from repl_pipelines.errors import TerminalError
from repl_pipelines.lake.lake import Lake
from repl_pipelines.orchestration.alert_targets import AlertTarget
from repl_pipelines.orchestration.resources import LakeResource, ReplicaResource, SourceResource
from repl_pipelines.orchestration.yaml_position import WrongField
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.sources.contract import Source

Found = TypeVar("Found", SourceResource, LakeResource, ReplicaResource, AlertTarget)


class SecretMissing(TerminalError):
    """An environment variable that a resource needs is not set here."""


@dataclass(frozen=True)
class Connections:
    """What the declaration's resource keys stand for."""

    source: SourceResource
    lake: LakeResource
    replicas: Mapping[str, ReplicaResource]

    @classmethod
    def find(
        cls,
        where: str,
        source: str,
        lake: str,
        replicas: Sequence[str],
        alerts: Sequence[str] = (),
    ) -> "Connections":
        """alerts: resources that nothing but their role is asked of."""
        defined = _dictionary(where)
        for i, name in enumerate(alerts):
            _typed(defined, where, name, AlertTarget, ["alerts", "to", i])
        return cls(
            _typed(defined, where, source, SourceResource, ["source"]),
            _typed(defined, where, lake, LakeResource, ["lake"]),
            {
                name: _typed(defined, where, name, ReplicaResource, ["replicas", i])
                for i, name in enumerate(replicas)
            },
        )

    # The ends outside of a run, with the secrets of this environment; each raises SecretMissing.

    def source_end(self, name: str) -> Source:
        return _initialized(name, self.source).source(name)

    def lake_end(self, key: str, source: str) -> Lake:
        return _initialized(key, self.lake).lake(source)

    def replica_end(self, key: str, source: str) -> Replica:
        return _initialized(key, self.replicas[key]).replica(key, source)


def _initialized(key: str, resource: Found) -> Found:
    try:
        return resource.process_config_and_initialize()
    except DagsterInvalidConfigError as error:
        missing = re.findall(r'environment variable "(\w+)" which is not set', str(error))
        if not missing:
            raise
        raise SecretMissing(
            f"Resource {key!r} needs the environment variable {', '.join(missing)}, not set here.",
            "Set it where the command runs, or in the project's .env file.",
        ) from error


def _dictionary(where: str) -> Mapping[str, object]:
    module, _, name = where.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise WrongField(
            ["resources"],
            f"{where!r} leads to no dictionary of resources ({error}).",
            "Write `module:dictionary`; the module must be importable where Dagster runs.",
        ) from error
    if not isinstance(found, Mapping):
        raise WrongField(["resources"], f"{where!r} is no dictionary.", "Map keys to resources.")
    return found


def _typed(
    defined: Mapping[str, object],
    where: str,
    key: str,
    expected: type[Found],
    path: Sequence[str | int],
) -> Found:
    if key not in defined:
        raise WrongField(
            path,
            f"there is no resource {key!r} in {where}.",
            f"Define it there, or use one of: {', '.join(sorted(defined))}.",
        )
    found = defined[key]
    if not isinstance(found, expected):
        role = expected.__name__.removesuffix("Resource").lower()
        raise WrongField(
            path,
            f"resource {key!r} is a {type(found).__name__}, which cannot serve as {role}.",
            f"Name a resource of a class derived from {expected.__name__}.",
        )
    return found
