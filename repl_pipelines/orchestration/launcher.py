"""The run launcher of a deployment without containers: it tells when a run's process is gone.

Dagster's own leaves that to the code server that started the process. When both are killed, the
run stays "started" for ever, and its schedule waits for it.
"""

import time
from typing import Any

from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

_SETTLED = 15.0  # seconds
GONE = "The code server knows no process of this run: both were killed, or it was restarted."


class WatchedRunLauncher(DefaultRunLauncher):
    """Lets the daemon's run monitoring ask the code server after a run's process.

    The code server must be `dagster api grpc`: a `dagster code-server` that has reloaded its code
    does not tell of runs that began before.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._missed: dict[str, float] = {}  # when the server first did not know a run

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Gone only if the server says so; while it cannot be reached nothing is known.

        It must say so for a while: the daemon retries a run that is gone only once, at once, and
        not at all while it still takes a server that was just started again for unreachable.
        """
        client = self._get_grpc_client_for_termination(run.run_id)
        if client is None:  # it has just ended
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        now = time.monotonic()
        if now - self._missed.setdefault(run.run_id, now) < _SETTLED:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, GONE)
