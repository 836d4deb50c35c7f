"""The Dagster UI as a person uses it: pages, buttons, and what they say."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import FloatRect, Locator, Page, expect, sync_playwright

from repl_pipelines.demo import debian
from tests.browser.stack import Stack

PATIENCE = 300_000.0  # milliseconds; a bound against waiting for ever, not on how fast a run is
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
WIDTH, HEIGHT = 1400, 900
RUN = re.compile(r"/runs/[0-9a-f-]{36}$")


class Ui:
    """One tab. images: where pictures for the documentation go; None: none are taken."""

    def __init__(self, page: Page, stack: Stack, images: Path | None) -> None:
        self.page = page
        self.stack = stack
        self.images = images

    def open(self, path: str) -> None:
        self.page.goto(f"{self.stack.url}{path}")

    def button(self, name: str, within: Locator | None = None) -> Locator:
        """By the end of its name, which begins with that of its icon."""
        place = within or self.page.locator("body")
        return place.get_by_role("button", name=re.compile(f"{re.escape(name)}$"))

    def launched(self) -> str:
        """Follow the note that something was launched to its page; the end of the address."""
        notes = self.page.get_by_role("region", name=re.compile("Notifications"))
        notes.get_by_role("link", name="View", exact=True).first.click()
        self.page.wait_for_url(re.compile("/runs/"))
        return self.page.url.removeprefix(self.stack.url)

    def ends(self, status: str) -> str:
        """Wait until the run whose page is open has ended so; its id."""
        self.page.wait_for_url(RUN)
        ended = self.page.get_by_text(re.compile("^(Success|Failure|Canceled)$"))
        expect(ended.first).to_be_visible()
        run = self.page.url.rpartition("/")[2]
        assert ended.first.inner_text() == status, self.stack.log_of(run)
        return run

    def row(self, name: str) -> Locator:
        """The row of a table that begins with this name."""
        return self.page.get_by_role("row", name=re.compile(f"^{re.escape(name)}"))

    def picture(self, name: str, *, height: int = HEIGHT, of: Locator | None = None) -> None:
        """Take `<name>.png` for the documentation, if pictures are wanted."""
        if self.images is None:
            return
        self.page.set_viewport_size({"width": WIDTH, "height": max(height, HEIGHT)})
        self.page.wait_for_timeout(3000)  # what moves comes to rest
        path = self.images / f"{name}.png"
        if of:
            of.screenshot(path=path)
        else:
            top: FloatRect = {"x": 0, "y": 0, "width": WIDTH, "height": height}
            self.page.screenshot(path=path, clip=top)
        self.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


@contextmanager
def browser(stack: Stack) -> Iterator[Ui]:
    """Debian's Chromium; Playwright's own browsers are not downloaded."""
    program = shutil.which("chromium")
    env: dict[str, str | float | bool] = dict(os.environ)
    if program is None:
        root = debian.unpacked("chromium")
        program = str(root / "usr/lib/chromium/chromium")
        env["LD_LIBRARY_PATH"] = str(debian.libraries(root) or "")
    wanted = os.environ.get("IMAGES")
    images = Path(wanted).resolve() if wanted else None
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS, env=env)
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, timezone_id="UTC")
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield Ui(page, stack, images)
        chromium.close()
