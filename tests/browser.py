"""Opens pages in a real Chromium, and notes whatever a page should not do."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@dataclass
class Looked:
    """A page, and what was noted of it: complaints on its console, and addresses that it asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path is not None, "install chromium: make test-all does"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, address: str, **context: Any) -> Iterator[Looked]:
    with browser.new_context(**{"viewport": DESKTOP, **context}) as made:
        looked = Looked(made.new_page())
        looked.page.on(
            "console",
            lambda said: looked.complaints.append(said.text) if said.type != "log" else None,
        )
        looked.page.on("pageerror", lambda error: looked.complaints.append(str(error)))
        looked.page.on("request", lambda request: looked.requests.append(request.url))
        looked.page.goto(address)
        yield looked


def violations(browser: Browser, html: str, **context: Any) -> list[str]:
    """Run axe-core on a page; its script would be refused by the page's own policy, which is left out for it."""
    axe = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
    with browser.new_context(bypass_csp=True, **context) as made:
        page = made.new_page()
        page.set_content(html)
        page.evaluate(axe)
        found = page.evaluate("axe.run().then((result) => JSON.stringify(result.violations))")
    return [f"{one['id']}: {node['html']}" for one in json.loads(found) for node in one["nodes"]]
