"""What people do in the UI, in a real browser: one Dagster, one shop, one story after the other."""

import re
from datetime import UTC, datetime, timedelta

from playwright.sync_api import expect

from tests.browser.ui import Ui

LOCATION = "/locations/repl_pipelines"


def test_a_table_is_materialized_and_shows_its_progress_and_its_proof(ui: Ui) -> None:
    page = ui.page
    ui.open("/assets/lake/shop/countries")
    ui.button("Materialize").click()
    ui.launched()
    expect(page.get_by_text("public.countries: reading").first).to_be_visible()
    ui.ends("Success")
    ui.open("/assets/lake/shop/countries?view=checks&checkDetail=proven")
    expect(page.get_by_text("Passed", exact=True).first).to_be_visible()
    [(rows,)] = ui.stack.source("select count(*) from countries")
    expect(page.get_by_text(re.compile(f"^{rows}:[0-9a-f]{{32}}$"))).to_be_visible()


def test_a_month_is_backfilled_in_one_run(ui: Ui) -> None:
    """Today's partition has no row yet, which is no reason to fail."""
    today = datetime.now(UTC).date()
    page = ui.page
    ui.open("/assets/lake/shop/events")
    ui.button("Materialize…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill(f"[{today - timedelta(29)}...{today}]")
    dialog.get_by_role("textbox").press("Enter")
    expect(dialog.get_by_text("30 partitions", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    backfill = ui.launched()
    expect(page.get_by_text("100% completed")).to_be_visible()
    expect(page.get_by_text("Succeeded", exact=True).first).to_be_visible()
    ui.picture("backfill", height=500)
    page.get_by_role("tab", name="Runs").click()
    expect(
        page.locator("a[href^='/runs/']").filter(has_text=re.compile("^[0-9a-f]{8}$"))
    ).to_have_count(1)
    assert ui.stack.status_of(backfill.rpartition("/")[2]) == ["SUCCESS"]
    ui.open(f"/assets/lake/shop/events?view=partitions&partition={today - timedelta(1)}")
    expect(page.get_by_text(re.compile(r"^Materialized \([34]\d\)"))).to_be_visible()
    expect(page.get_by_text("dagster/partition_row_count")).to_be_visible()
    ui.picture("partitions", height=1000)


def test_the_schedule_ticks_and_runs(ui: Ui, scheduled: str) -> None:
    ui.open("/assets/postgres/shop/orders")
    [(rows,)] = ui.stack.source("select count(*) from orders")
    expect(ui.page.get_by_text(f"{rows:,}", exact=True).first).to_be_visible()
    assert ui.stack.replica("select count(*) from orders") == [(rows,)]
    ui.open("/assets/lake/shop/orders")
    expect(ui.page.get_by_text("delta version").first).to_be_visible()
    ui.picture("lake-asset", height=1750)


def test_a_failed_validation_is_red_and_shows_what_differs(ui: Ui, scheduled: str) -> None:
    page = ui.page
    ui.stack.replica("update customers set name = 'Mallory' where id = 3 returning name")
    ui.open(f"{LOCATION}/jobs/shop_validate")
    ui.button("Materialize all").click()
    ui.launched()
    ui.ends("Failure")
    ui.open("/assets/validation/shop/customers?view=checks&checkDetail=equal_postgres")
    expect(page.get_by_text("Failed", exact=True).first).to_be_visible()
    expect(page.get_by_text("Rows that differ: 1 unequal (first: id=3)").first).to_be_visible()
    [(name,)] = ui.stack.source("select name from customers where id = 3")
    differing = page.get_by_role("row", name=re.compile(f"unequal id=3 name {name} Mallory"))
    expect(differing.last).to_be_visible()
    ui.picture("red-check", height=1150)
    ui.open("/assets/state/shop")
    page.get_by_text("[Show Markdown]").first.click()
    expect(page.get_by_text("It differs in 1 row: repair it").first).to_be_visible()
    ui.picture("state", height=1300, of=page.get_by_role("dialog"))
    ui.open("/assets/lake/shop/countries?view=lineage")
    expect(page.get_by_text("3 / 3 Passed").first).to_be_visible()
    ui.picture("lineage", height=760)
    while "validation/shop/customers equal_postgres" not in str(ui.stack.told.posts):
        page.wait_for_timeout(1000)  # the daemon looks every minute


def test_re_execution_from_failure_redoes_one_table(ui: Ui) -> None:
    page = ui.page
    ui.stack.source(
        "alter table products add column if not exists margin numeric(5,2)",
        "update products set margin = 'NaN' where id = 7",
    )
    ui.open(f"{LOCATION}/jobs/shop_sync")
    ui.button("Materialize all").click()
    ui.launched()
    failed = ui.ends("Failure")
    ui.stack.source("update products set margin = 1 where id = 7")
    page.get_by_role("button", name=re.compile("^Re-execute")).locator(
        "xpath=following::button[1]"
    ).click()
    ui.picture("re-execute", height=345)  # below it are paths
    page.get_by_role("menuitem", name="From asset failure").click()
    page.wait_for_url(lambda url: "/runs/" in url and failed not in url)
    again = ui.ends("Success")
    redone = {f"{layer}/shop/products" for layer in ("lake", "duckdb", "postgres")}
    assert ui.stack.assets_of(again) == redone
    assert ui.stack.replica("select margin from products where id = 7") == [(1,)]
