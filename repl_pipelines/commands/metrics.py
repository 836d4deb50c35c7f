"""`repl-pipelines metrics`: figures for Prometheus, read anew at each scrape."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.project import Declared, declared, in_project
from repl_pipelines.errors import ReplicationError
from repl_pipelines.lake.lake import Lake
from repl_pipelines.proof.evidence import Told
from repl_pipelines.sources.contract import LogStatus
from repl_pipelines.sync.hold import LAKE
from repl_pipelines.sync.state import ReplicationState, read_state

_PREFIX = "repl_pipelines"
Family = TypeVar("Family", GaugeMetricFamily, CounterMetricFamily)


@command(prints_json=False)
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Serve them at http://HOST:PORT/metrics until interrupted.  [default: print them once]",
)
@in_project
def metrics(
    output: Output,  # noqa: ARG001 - every command has it
    names: tuple[str, ...],
    listen: str | None,
    project: Path,
) -> Exit:
    """Tell Prometheus how replications stand: rows, bytes, lag, age of proofs, differences, log.

    All but the log is read from the lakes, as `status` does. Of the log the source is asked, and
    its guard (`retained_limit_mb`) acts as at a sync. What cannot be read is missing, and
    repl_pipelines_up or repl_pipelines_source_up is 0 then. docs/alerts.md names the figures, and
    has rules to go with them.

    \b
    Examples:
      repl-pipelines metrics crm
      repl-pipelines metrics crm shop --listen 127.0.0.1:9464
    """  # noqa: D301 - click's mark for a paragraph that it must not wrap
    registry = CollectorRegistry()
    place = project.resolve()  # to find the first one changes the current directory
    for name in names:
        found = declared(place, name)
        copies = (LAKE, *found.component.replicas)
        log = partial(_watched, found)
        registry.register(Figures(found.lake(), copies, log))
    if listen is None:
        click.echo(generate_latest(registry).decode(), nl=False)
        return Exit.DONE
    host, _, port = listen.rpartition(":")
    _, thread = start_http_server(int(port), host, registry)
    click.echo(f"http://{listen}/metrics", err=True)
    thread.join()
    return Exit.DONE


class Figures(Collector):
    """One replication. What is counted is counted from the journal, from its oldest sync on."""

    def __init__(
        self, lake: Lake, copies: Sequence[str], watch_log: Callable[[], LogStatus | None]
    ) -> None:
        """copies: that each table should have; watch_log: asks the source what it keeps of it."""
        self.lake = lake
        self.copies = copies
        self.watch_log = watch_log
        self._lock = threading.Lock()  # two may scrape at once
        self._counted = 0  # the newest sync that is
        self._rows: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def describe(self) -> Iterable[Metric]:
        """Nothing is read before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        try:
            with self._lock:
                self._count()
                state = read_state(self.lake, copies=self.copies)
        except ReplicationError:
            yield self._gauge("up", "Whether the lake could be read.", 0)
        else:
            yield self._gauge("up", "Whether the lake could be read.", 1)
            yield from self._of_journal(state)
            yield from self._of_proofs(state)
        yield from self._of_log()

    def _count(self) -> None:
        for sync in self.lake.journal.since(self._counted):
            for entry in sync.entries:
                self._rows[str(entry.table)] += entry.changed
                self._bytes[str(entry.table)] += entry.bytes
            self._counted = sync.number

    def _of_journal(self, state: ReplicationState) -> Iterator[Metric]:
        yield self._gauge("sync_number", "The newest published sync.", state.sync)
        held = self._family(GaugeMetricFamily, "rows", "Rows of the copy in the lake.", "table")
        lag = self._family(
            GaugeMetricFamily, "lag_seconds", "Age of the position copied, by our clock.", "table"
        )
        changed = self._family(
            CounterMetricFamily, "rows_changed", "Rows that syncs have written.", "table"
        )
        written = self._family(
            CounterMetricFamily, "bytes_written", "Bytes that syncs have written.", "table"
        )
        for table in state.tables:
            labels = [self.lake.source, str(table.name)]
            if table.rows is not None:
                held.add_metric(labels, table.rows)
            changed.add_metric(labels, self._rows[labels[1]])
            written.add_metric(labels, self._bytes[labels[1]])
            if table.lag.seconds is not None:
                lag.add_metric(labels, table.lag.seconds)
        yield from (held, lag, changed, written)

    def _of_proofs(self, state: ReplicationState) -> Iterator[Metric]:
        proven = self._family(
            GaugeMetricFamily,
            "copy_proven",
            "1 if the copy was equal when it was last compared.",
            "table",
            "copy",
        )
        age = self._family(
            GaugeMetricFamily, "proof_age_seconds", "Since it was proven equal.", "table", "copy"
        )
        differing = self._family(
            GaugeMetricFamily, "rows_different", "Rows found to differ, now.", "table", "copy"
        )
        for table in state.tables:
            for name, copy in table.copies.items():
                labels = [self.lake.source, str(table.name), name]
                equal = copy.told is Told.EQUAL
                proven.add_metric(labels, equal)
                differing.add_metric(labels, copy.rows)
                if equal and copy.at:
                    age.add_metric(labels, _seconds(copy.at, state.at))
        yield from (proven, age, differing)

    def _of_log(self) -> Iterator[Metric]:
        try:
            found = self.watch_log()
        except ReplicationError:
            yield self._gauge("source_up", "Whether the source could be asked.", 0)
            return
        yield self._gauge("source_up", "Whether the source could be asked.", 1)
        if found:
            kept = "Bytes of log that the source keeps for us."
            yield self._gauge("log_retained_bytes", kept, found.retained)
            yield self._gauge("log_unread_bytes", "Of these, bytes not yet read.", found.behind)
            yield self._gauge("log_warn_bytes", "From which it is a warning.", found.warn)
            if found.limit is not None:
                yield self._gauge("log_limit_bytes", "From which it is let go of.", found.limit)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = self._family(GaugeMetricFamily, name, text)
        family.add_metric([self.lake.source], value)
        return family

    def _family(self, kind: type[Family], name: str, text: str, *labels: str) -> Family:
        return kind(f"{_PREFIX}_{name}", text, labels=["replication", *labels])


def _watched(found: Declared) -> LogStatus | None:
    return found.source().watch_log()


def _seconds(then: datetime, now: datetime) -> float:
    return max((now - then).total_seconds(), 0.0)
