"""The sandbox's page in a real browser: what arrived, what was refused and why, shown to a client without fear."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser

from browser import DESKTOP, PHONE, chromium, opened, violations
from command_line import SAMPLE_DATA
from conftest import Command
from rd_import.sandbox import Sandbox

pytestmark = pytest.mark.browser
HOSTILE = "</pre></script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def busy(sandbox: Sandbox, rd_import: Command, tmp_path: Path) -> Sandbox:
    """A sandbox that took orders and calls, and refused an event; one text is hostile."""
    for name, kind in (("orders.csv", "ECOMMERCE_ORDER_PLACED"), ("calls.csv", "CALL_FINISHED")):
        rd_import(SAMPLE_DATA / name, "--type", kind, "--audit", tmp_path / f"{kind}.parquet")
    payload = {"email": "x@example.com", "conversion_identifier": HOSTILE}
    for sent in (payload, {**payload, "email": "not an address"}):
        event = {"event_type": "CONVERSION", "event_family": "CDP", "payload": sent}
        requests.post(
            f"{sandbox.url}/platform/events/batch",
            json=[event],
            headers={"Authorization": f"Bearer {sandbox.token}"},
            timeout=10,
        )
    return sandbox


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_asks_nothing_complains_of_nothing_and_shuts_nobody_out(
    busy: Sandbox, browser: Browser, scheme: str
) -> None:
    for viewport in (PHONE, DESKTOP):
        with opened(browser, f"{busy.url}/", viewport=viewport, color_scheme=scheme) as looked:
            assert looked.complaints == []
            assert looked.requests == [f"{busy.url}/"]
            assert looked.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page = requests.get(busy.url, timeout=10).text
    assert violations(browser, page, color_scheme=scheme) == []


def test_events_are_filtered_by_type_and_contact_with_the_keyboard(
    busy: Sandbox, browser: Browser
) -> None:
    with opened(browser, f"{busy.url}/") as looked:
        page = looked.page
        page.get_by_label("Type").select_option("ECOMMERCE_ORDER_PLACED")
        page.get_by_label("Contact").fill("ana.ribeiro")
        page.keyboard.press("Enter")
        page.wait_for_url("**contact=ana.ribeiro*")
        rows = page.locator("#events tbody tr")
        assert rows.count() == 1
        assert "ECOMMERCE_ORDER_PLACED" in rows.first.inner_text()
        rows.first.locator("summary").focus()
        page.keyboard.press("Enter")
        shown = rows.first.locator("pre").inner_text()
        assert '"identifier": "LV-20871"' in shown
        assert looked.complaints == []


def test_what_was_refused_says_why(busy: Sandbox, browser: Browser) -> None:
    with opened(browser, f"{busy.url}/") as looked:
        refused = looked.page.locator("#refused tbody tr").first.inner_text()
        assert "400" in refused
        assert "email" in refused
        assert looked.page.locator("#rate strong").inner_text() == "4"


def test_a_page_on_which_nothing_arrived_says_what_to_do_and_raises_no_alarm(
    sandbox: Sandbox, browser: Browser
) -> None:
    with opened(browser, f"{sandbox.url}/") as looked:
        assert looked.page.locator(".tile.bad").count() == 0
        assert looked.page.get_by_text("Nothing arrived yet: put the two lines").is_visible()
        heads = looked.page.locator("#refused thead, #events thead")
        assert all((one.bounding_box() or {"x": 0})["x"] < 0 for one in heads.all())
    assert violations(browser, requests.get(sandbox.url, timeout=10).text) == []
