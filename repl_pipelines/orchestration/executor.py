"""What executes steps: the run's own process, or what a file names (see deploy/celery.yaml)."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from repl_pipelines.errors import DeclarationError

VARIABLE = "REPL_PIPELINES_EXECUTOR"


def chosen() -> dg.ExecutorDefinition:
    """The executor of all jobs. The file has `executor` and `execution: {config}`.

    Nested as in a run's configuration, which Celery's workers read from the same file. Raises
    DeclarationError.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return dg.in_process_executor  # a process for each step costs more than most steps
    remedy = f"Let {VARIABLE} name a file like deploy/celery.yaml, or leave it out."
    try:
        told: Mapping[str, Any] = yaml.safe_load(Path(path).read_text())
        module, _, name = str(told["executor"]).rpartition(".")
        found = getattr(import_module(module), name)
        config = told["execution"]["config"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise DeclarationError(
            f"{path} does not tell what executes steps: {type(error).__name__}: {error}.", remedy
        ) from error
    if not isinstance(found, dg.ExecutorDefinition):
        raise DeclarationError(f"{path}: {told['executor']} is not an executor.", remedy)
    return found.configured(config)
