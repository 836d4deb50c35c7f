"""One stack and one tab for all stories."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.s3_server import S3Server
from tests.browser.stack import Stack, running
from tests.browser.ui import Ui, browser
from tests.servers import fresh_bucket


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: PostgresServer,
    replica_postgres: PostgresServer,
    s3: S3Server,
) -> Iterator[Stack]:
    directory: Path = tmp_path_factory.mktemp("stack")
    with (
        fresh_bucket(s3) as bucket,
        running(directory, postgres, replica_postgres, bucket) as stack,
    ):
        yield stack


@pytest.fixture(scope="module")
def ui(stack: Stack) -> Iterator[Ui]:
    with browser(stack) as ui:
        yield ui


@pytest.fixture(scope="module")
def scheduled(ui: Ui) -> str:
    """The schedule is switched on until it has started a run; the id of the run that succeeded."""
    page = ui.page
    ui.open("/locations/repl_pipelines/schedules/shop_sync")
    switch = ui.row("Running").locator("label")
    switch.click()
    started = page.locator("tr a[href^='/runs/']")
    started.first.wait_for()
    switch.click()
    ui.picture("schedule", height=640)
    ui.open(str(started.first.get_attribute("href")))
    return ui.ends("Success")
