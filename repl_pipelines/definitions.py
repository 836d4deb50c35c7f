"""The code location: the replications in `assets/`, wired to the connections in `resources/`."""

from pathlib import Path

import dagster as dg

from repl_pipelines.orchestration import executor


@dg.definitions
def defs() -> dg.Definitions:
    """What webserver and daemon load."""
    import resources  # the deployment's own; the library does not depend on it

    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=Path(resources.__file__)),
        dg.Definitions(
            resources=resources.RESOURCES,
            executor=executor.chosen(),
        ),
    )
