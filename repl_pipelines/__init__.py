"""Replicates operational databases to a lake and to analytical replicas, and proves the copies.

What a Dagster project needs is here by name; it is imported only when asked for, because the
engine works without Dagster.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repl_pipelines.orchestration.alert_targets import EmailAlerts as EmailAlerts
    from repl_pipelines.orchestration.alert_targets import SlackAlerts as SlackAlerts
    from repl_pipelines.orchestration.alert_targets import WebhookAlerts as WebhookAlerts
    from repl_pipelines.orchestration.resources import DuckDBReplica as DuckDBReplica
    from repl_pipelines.orchestration.resources import MariaDBSource as MariaDBSource
    from repl_pipelines.orchestration.resources import MySQLSource as MySQLSource
    from repl_pipelines.orchestration.resources import PostgresReplica as PostgresReplica
    from repl_pipelines.orchestration.resources import PostgresSource as PostgresSource
    from repl_pipelines.orchestration.resources import S3Lake as S3Lake
    from repl_pipelines.replication import Replication as Replication

_RESOURCES = "repl_pipelines.orchestration.resources"
_ALERTS = "repl_pipelines.orchestration.alert_targets"
_HOMES = {
    "EmailAlerts": _ALERTS,
    "SlackAlerts": _ALERTS,
    "WebhookAlerts": _ALERTS,
    "DuckDBReplica": _RESOURCES,
    "MariaDBSource": _RESOURCES,
    "MySQLSource": _RESOURCES,
    "PostgresReplica": _RESOURCES,
    "PostgresSource": _RESOURCES,
    "S3Lake": _RESOURCES,
    "Replication": "repl_pipelines.replication",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except AttributeError as error:  # would read as "no such attribute", hiding the cause
        raise ImportError(f"{_HOMES[name]} cannot be loaded: {error}") from error


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
