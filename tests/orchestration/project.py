"""Somebody else's Dagster project that uses the library, on real servers."""

import asyncio
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from dagster.components.core.component_tree import ComponentTree
from psycopg.conninfo import conninfo_to_dict

from repl_pipelines.replication import Replication
from tests.servers import Bucket

PYPROJECT = """
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "{name}"
defs_module = "{name}.defs"
registry_modules = ["repl_pipelines"]
"""

CONNECTIONS = """
import dagster as dg
from repl_pipelines import DuckDBReplica, PostgresReplica, PostgresSource, S3Lake

CONNECTIONS = {{
    "shop": PostgresSource(
        {source}, password=dg.EnvVar("TEST_PASSWORD"), hash_key=dg.EnvVar("TEST_HASH_KEY")
    ),
    "lake": S3Lake({lake}, secret_key=dg.EnvVar("TEST_SECRET_KEY")),
    "duckdb": DuckDBReplica(directory={directory!r}),
    "postgres": PostgresReplica({replica}, password=dg.EnvVar("TEST_REPLICA_PASSWORD")),
}}
"""


@dataclass
class Project:
    """A project folder `<root>/<name>` with `defs/shop/defs.yaml` and its resources."""

    root: Path
    name: str
    source: str
    replica: str
    bucket: Bucket
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    def create(self, yaml: str) -> "Project":
        package = self.root / self.name
        (package / "defs" / "shop").mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "defs" / "__init__.py").touch()
        (self.root / "pyproject.toml").write_text(PYPROJECT.format(name=self.name))
        lake = {
            "bucket": self.bucket.name,
            "endpoint_url": self.bucket.endpoint_url,
            "access_key": self.bucket.access_key,
        }
        (package / "connections.py").write_text(
            CONNECTIONS.format(
                source=_keywords(_address(self.source)),
                replica=_keywords(_address(self.replica)),
                lake=_keywords(lake),
                directory=str(self.root / "replica"),
            )
        )
        self.declare(yaml)
        sys.path.insert(0, str(self.root))
        return self

    @property
    def yaml(self) -> Path:
        return self.root / self.name / "defs" / "shop" / "defs.yaml"

    def declare(self, yaml: str) -> None:
        self.yaml.write_text(yaml.replace("CONNECTIONS", f"{self.name}.connections:CONNECTIONS"))

    def source_as(self, user: str) -> None:
        """From now on the source is read as this user."""
        module = self.root / self.name / "connections.py"
        owner = conninfo_to_dict(self.source)["user"]
        module.write_text(module.read_text().replace(f"user={owner!r}", f"user={user!r}", 1))
        sys.modules.pop(f"{self.name}.connections", None)

    def unplug_source(self) -> None:
        """Nothing listens where the source was."""
        module = self.root / self.name / "connections.py"
        port = conninfo_to_dict(self.source)["port"]
        module.write_text(module.read_text().replace(f"port={port}", "port=1", 1))
        sys.modules.pop(f"{self.name}.connections", None)

    def refresh(self) -> None:
        """What `dg utils refresh-defs-state` does."""
        tree = ComponentTree.for_project(self.root)
        for component in tree.get_all_components(of_type=Replication):
            asyncio.run(component.refresh_state(self.root))

    def defs(self) -> dg.Definitions:
        """What a code server in production loads: no database is asked."""
        DefinitionsLoadContext.set(DefinitionsLoadContext(DefinitionsLoadType.INITIALIZATION))
        importlib.invalidate_caches()
        connections = importlib.import_module(f"{self.name}.connections")
        return dg.Definitions.merge(
            ComponentTree.for_project(self.root).build_defs(),
            dg.Definitions(resources=connections.CONNECTIONS, executor=dg.in_process_executor),
        )

    def run(self, *keys: str, **kwargs: Any) -> dg.ExecuteInProcessResult:
        """Materialize assets given as `lake/shop/orders`."""
        job = self.defs().resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            asset_selection=[dg.AssetKey(key.split("/")) for key in keys],
            instance=self.instance,
            raise_on_error=False,
            **kwargs,
        )

    def job(self, name: str, **kwargs: Any) -> dg.ExecuteInProcessResult:
        job = self.defs().resolve_job_def(name)
        return job.execute_in_process(instance=self.instance, raise_on_error=False, **kwargs)

    def sql(self, *statements: str, dsn: str | None = None) -> list[tuple]:
        with psycopg.connect(dsn or self.source, autocommit=True) as connection:
            cursors = [connection.execute(statement.encode()) for statement in statements]
            return cursors[-1].fetchall() if cursors[-1].description else []

    def newest(self, key: str, partition: str | None = None) -> dict[str, Any]:
        """Metadata of the newest materialization, as plain values."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(
                dg.AssetKey(key.split("/")), asset_partitions=[partition] if partition else None
            ),
            limit=1,
        ).records
        found = records[0].asset_materialization if records else None
        assert found is not None, f"{key} {partition} was never materialized"
        return {name: value.value for name, value in found.metadata.items()}

    def check(self, key: str, name: str, partition: str | None = None) -> str:
        """Newest verdict of a check: SUCCEEDED, FAILED, or NEVER."""
        history = self.instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey(key.split("/")), name), limit=100
        )
        return next((r.status.value for r in history if r.partition == partition), "NEVER")

    def evidence(self, key: str, name: str) -> Mapping[str, Any]:
        """Metadata of the newest evaluation of a check."""
        [record] = self.instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey(key.split("/")), name), limit=1
        )
        assert record.event is not None
        event = record.event.dagster_event
        assert event is not None
        return event.asset_check_evaluation_data.metadata


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    events = [e for e in result.all_events if e.is_step_materialization]
    return {e.asset_key.to_user_string() for e in events if e.asset_key}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What a person reads in the run's page."""
    events: Sequence[dg.DagsterEvent] = result.get_step_failure_events()
    return "\n".join(str(e.step_failure_data.error) for e in events)


def _address(dsn: str) -> dict[str, Any]:
    parts = conninfo_to_dict(dsn)
    known = {k: parts[k] for k in ("host", "dbname", "user") if k in parts}
    return known | {"port": int(parts["port"])}


def _keywords(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
