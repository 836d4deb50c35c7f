"""Alerts reach real receivers, once each; figures are scraped from the real endpoint."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from repl_pipelines.demo.processes import Process, free_ports
from tests.orchestration.conftest import YAML
from tests.orchestration.project import Project
from tests.orchestration.receivers import Mail, Web, mail, web

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "prometheus-rules.yaml"
ALERTS = "  alerts: {to: [hook, chat, mail], failures: 2, proof_limit: 3600}\n"
TARGETS = """
from repl_pipelines import EmailAlerts, SlackAlerts, WebhookAlerts
CONNECTIONS["hook"] = WebhookAlerts(url={hook!r}, headers={{"Authorization": "Bearer t"}})
CONNECTIONS["chat"] = SlackAlerts(url={chat!r})
CONNECTIONS["mail"] = EmailAlerts(
    host="127.0.0.1", port={port}, sender="dagster@shop", recipients=["ops@shop"], starttls=False
)
"""


class Ticks:
    """The sensor's ticks, each from where the last one ended well."""

    def __init__(self, project: Project, web: Web, mail: Mail) -> None:
        self.project, self.web, self.mail = project, web, mail
        self.cursor: str | None = None

    def tick(self) -> tuple[set[str], set[str]]:
        """What the web service was told has begun and has ended."""
        before = len(self.web.posts)
        defs = self.project.defs()
        connections = sys.modules[f"{self.project.name}.connections"].CONNECTIONS
        targets = {name: connections[name] for name in ("hook", "chat", "mail")}
        with dg.build_sensor_context(
            self.project.instance, self.cursor, definitions=defs, resources=targets
        ) as context:
            defs.resolve_sensor_def("shop_alerts").evaluate_tick(context)
            self.cursor = context.cursor
        told = [body for path, _, body in self.web.posts[before:] if path == "/hook"]
        if not told:
            return set(), set()
        [news] = told
        begun, ended = ({one["name"] for one in news[kind]} for kind in ("begun", "ended"))
        return begun, ended

    @property
    def looked_first(self) -> datetime:
        return datetime.fromisoformat(json.loads(self.cursor or "")["since"])


@pytest.fixture
def ticks(make_project: Callable[..., Project]) -> Iterator[Ticks]:
    """On a shop that was copied, and whose slot keeps more than is warned of."""
    logged = YAML.replace("{name: orders, cursor: updated_at}", "{name: orders, mode: log}")
    project = make_project(logged + ALERTS)
    [port] = free_ports(1)
    with web() as http, mail(port) as smtp:
        module = project.root / project.name / "connections.py"
        text = module.read_text().replace("PostgresSource(", "PostgresSource(retained_warn_mb=0, ")
        given = {"hook": http.url("hook"), "chat": http.url("chat"), "port": port}
        module.write_text(
            text.replace("import PostgresSource(", "import ") + TARGETS.format(**given)
        )
        project.refresh()
        yield Ticks(project, http, smtp)


def test_people_are_told_once_what_is_wrong_and_when_it_is_over(ticks: Ticks) -> None:
    project = ticks.project
    assert ticks.tick() == (set(), set())
    assert not ticks.web.posts
    assert project.job("shop_sync").success
    project.sql("insert into orders select i, 'x' from generate_series(31, 40) i")
    assert project.job("shop_sync").success
    assert ticks.tick() == ({"lake/shop/_syncs log"}, set())
    assert ticks.web.posts[0][1]["Authorization"] == "Bearer t"

    project.sql("update countries set name = 'Mallory' where code = 'AT'", dsn=project.replica)
    project.sql("delete from events where id = 1", dsn=project.replica)
    assert not project.job("shop_validate").success
    ticks.web.status = 503
    with pytest.raises(Exception, match="refused: 503"):
        ticks.tick()
    ticks.web.status = 200  # what was not delivered is told again
    red = {"validation/shop/countries equal_postgres"}
    red |= {"validation/shop/events/2026-11-02 equal_postgres"}
    assert ticks.tick() == (red, set())
    chat = [body["text"] for path, _, body in ticks.web.posts if path == "/chat"][-1]
    [*_, letter] = ticks.mail.messages
    for text in (chat, str(letter.get_payload(decode=True), "utf-8")):
        assert re.search(
            r"ALERT .*countries equal_postgres: .*Rows that differ: 1 unequal \(first: code=AT",
            text,
        )
        assert "Mallory" not in text
    assert (letter["Subject"], letter["To"]) == ("shop: 2 new", "ops@shop")
    assert ticks.tick() == (set(), set())
    with scraped(project) as figures:
        hold_figures(figures)

    config = {"ops": {"shop_repairs": {"config": {"limit": 0.5}}}}
    assert project.job("shop_repair", run_config=config).success
    assert ticks.tick() == (set(), red)

    project.unplug_source()
    for _ in range(2):
        assert not project.job("shop_sync").success
    late = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(["duckdb", "shop", "_syncs"]),
        check_name="lag",
        passed=False,
        metadata={"lag seconds": 1000},
    )
    project.instance.report_runless_asset_event(late)
    begun, _ = ticks.tick()
    assert {"job shop_sync keeps failing", "duckdb/shop/_syncs lag"} <= begun


def test_what_was_never_proven_is_an_alert_after_its_time(ticks: Ticks) -> None:
    assert ticks.tick() == (set(), set())
    earlier = ticks.looked_first - timedelta(hours=2)
    ticks.cursor = json.dumps({"since": earlier.isoformat(), "open": {}})
    old = {"validation/shop/_syncs is too old", "lake/shop/_syncs is too old"}
    assert ticks.tick() == (old, set())
    for path in ("validation", "lake"):
        key = dg.AssetKey([path, "shop", "_syncs"])
        ticks.project.instance.report_runless_asset_event(dg.AssetMaterialization(key))
    assert ticks.tick() == (set(), old)


@contextmanager
def scraped(project: Project) -> Iterator[dict[str, dict[tuple[str, ...], float]]]:
    """Figures by name and labels, from a real process."""
    [port] = free_ports(1)
    listen = ("--listen", f"127.0.0.1:{port}")
    command = [sys.executable, "-m", "repl_pipelines", "metrics", "shop", *listen]
    process = Process(command, project.root / "metrics.log", cwd=project.root)
    url = f"http://127.0.0.1:{port}/metrics"

    def ready() -> bool:
        return f":{port}/metrics" in process.log_text()

    try:
        process.wait_ready(ready, timeout=300)
        text = requests.get(url, timeout=300).text
        again = requests.get(url, timeout=300).text
        counted = "repl_pipelines_rows_changed_total"
        assert [line for line in text.splitlines() if line.startswith(counted)] == [
            line for line in again.splitlines() if line.startswith(counted)
        ]
        yield _by_name(text)
    finally:
        process.stop()


def _by_name(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            names = [n for n in ("replication", "table", "copy") if n in sample.labels]
            labels = tuple(sample.labels[name] for name in names)
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def hold_figures(figures: dict[str, dict[tuple[str, ...], float]]) -> None:
    def value(name: str, *labels: str) -> float:
        return figures[f"repl_pipelines_{name}"]["shop", *labels]

    assert value("up") == value("source_up") == 1
    assert value("rows", "public.countries") == 2
    assert ("shop", "public.orders") not in figures["repl_pipelines_rows"]  # mode log
    assert value("rows", "public.events") == 20
    assert value("rows_changed_total", "public.orders") == 40
    assert value("bytes_written_total", "public.orders") > 0
    assert value("lag_seconds", "public.orders") > 0
    assert value("log_retained_bytes") > value("log_warn_bytes") == 0
    assert value("copy_proven", "public.countries", "lake") == 1
    assert value("copy_proven", "public.countries", "postgres") == 0
    assert value("rows_different", "public.countries", "postgres") == 1
    assert value("proof_age_seconds", "public.countries", "duckdb") >= 0
    assert ("shop", "public.countries", "postgres") not in figures[
        "repl_pipelines_proof_age_seconds"
    ]
    named = set(re.findall(r"repl_pipelines_\w+", RULES.read_text()))
    assert named
    assert named <= figures.keys() | {"repl_pipelines_log_limit_bytes"}
