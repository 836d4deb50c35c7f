"""One apply in a process of its own, which a failpoint may kill: a pickle of its parts on stdin."""

import pickle
import resource
import signal
import sys

from repl_pipelines.lake.lake import Lake

if __name__ == "__main__":
    replica, store, source, tables, file_size = pickle.load(sys.stdin.buffer)  # noqa: S301 its parent's
    if file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    try:
        replica.apply(Lake(store, source), tables, "child")
    except Exception as error:
        sys.stdout.write(f"{type(error).__name__}: {error}")
        sys.exit(1)
