"""A real browser at the pages of a Prefect server: Debian's Chromium, without a window, driven by Playwright.

It finds no host but this machine, and keeps nothing. Everything here blocks: coroutines call it in a thread.
"""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from playwright.sync_api import Page, Request, expect, sync_playwright

from tests.cluster.errors import ClusterError
from tests.cluster.packages import CHROMIUM, SEARCH
from tests.servers.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.prefect import PrefectServer

SIZE: Final = {"width": 1280, "height": 800}
WAIT_MILLISECONDS: Final = 30_000
NAMES: Final = (CHROMIUM, "chromium", "chromium-browser", "google-chrome")

_NOWHERE_ELSE = f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}"


@dataclass  # Playwright keeps a note in whatever has a method that it calls
class Browser:
    """A browser in which somebody has logged in to a Prefect server."""

    page: Page
    url: str
    outside: set[str] = field(default_factory=set)
    """What the pages wanted from other hosts so far, as method and host; they got none of it."""

    def show(self, path: str, *texts: str) -> str:
        """Opens a page of the server, and returns what `wait_for` does; paths of its newer pages begin with `/v2`."""
        self.page.goto(f"{self.url}{path}")
        return self.wait_for(*texts)

    def press(self, name: str, *texts: str) -> str:
        """Presses a button or chooses a tab as soon as it is there, and returns what `wait_for` does."""
        whole = re.compile(rf"^\s*{re.escape(name)}\s*\d*\s*$")
        buttons = self.page.get_by_role("button", name=whole).or_(self.page.get_by_role("tab", name=whole))
        buttons.first.click(timeout=WAIT_MILLISECONDS)
        return self.wait_for(*texts)

    def wait_for(self, *texts: str) -> str:
        """Returns all that the page says, as soon as each of the texts stands in it.

        Raises:
            AssertionError: One is not shown in time; the error has what is.
        """
        body = self.page.locator("body")
        for text in texts:
            expect(body).to_contain_text(text, timeout=WAIT_MILLISECONDS, use_inner_text=True)
        return body.inner_text()

    def note(self, request: Request) -> None:
        """Notes where a request of a page goes."""
        host = urlsplit(request.url).hostname  # what the page itself holds, such as `data:`, has none
        if host not in {None, HOST}:
            self.outside.add(f"{request.method} {host}")

    def take_picture(self, file: Path) -> Path:
        """Writes what is shown into a PNG, once nothing moves."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_load_state("networkidle")
        self.page.screenshot(path=file, animations="disabled", caret="hide")
        return file


def find_browser() -> str | None:
    """Returns the program of a browser, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name, path=SEARCH))), None)


@contextmanager
def open_browser(server: PrefectServer) -> Iterator[Browser]:
    """Has a browser that is logged in to a server as a person does it: with the auth string in its form.

    Raises:
        ClusterError: There is no browser.
    """
    program = find_browser()
    if program is None:
        raise ClusterError(f"a browser is missing: run `make install` as root, or install Debian's package {CHROMIUM}")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=[_NOWHERE_ELSE]) as chromium,
    ):
        page = chromium.new_page(viewport=SIZE, locale="en-GB", timezone_id="UTC", color_scheme="light")
        browser = Browser(page, server.ui_url)
        page.on("request", browser.note)
        _log_in(browser, server.auth)
        yield browser


def _log_in(browser: Browser, auth: str) -> None:
    browser.show("/", "Login")
    browser.page.locator("input[type=password]").fill(auth)
    browser.press("Login", "Dashboard", "Logout")
