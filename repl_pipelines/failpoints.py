"""Named points at which a test can stop a sync; in production they cost one dictionary look-up.

`REPL_PIPELINES_FAILPOINT=name` kills the process at that point, as a power cut would;
`name:raise` raises `Crash` instead. Idea: the failpoints of supabase/etl and FreeBSD fail(9).
"""

import os


class Crash(BaseException):
    """Raised at a failpoint; not an Exception, so that no handler mistakes it for an error."""


def reach(name: str) -> None:
    """Die here if the environment says so."""
    wanted = os.environ.get("REPL_PIPELINES_FAILPOINT")
    if wanted is None:
        return
    point, _, how = wanted.partition(":")
    if point == name:
        if how == "raise":
            raise Crash(name)
        os._exit(137)
