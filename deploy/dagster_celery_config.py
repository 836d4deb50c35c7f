"""What `celery -A dagster_celery.app worker` imports: the executor's own file.

`dagster-celery worker start` would write the same to a file, with the broker's password, and start
a child that outlives it when it is killed.
"""

import os

from dagster_celery.cli import get_validated_config

_told = get_validated_config(os.environ["REPL_PIPELINES_EXECUTOR"])
broker_url = _told["broker"]
result_backend = _told["backend"]
globals().update(_told["config_source"])
