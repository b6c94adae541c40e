"""The report explains a run to a person: true to the audit, small, safe to open, usable by everyone."""

import html
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser

from browser import DESKTOP, PHONE, chromium, opened, violations
from command_line import SAMPLE_DATA
from conftest import Command
from rd_import.audit_file import AUDIT_SCHEMA
from rd_import.report import write_report
from rd_import.sandbox import Behaviour, Fault, Sandbox

ORDER = ("--type", "ECOMMERCE_ORDER_PLACED")
START = datetime(2026, 3, 5, 14, 0, tzinfo=UTC)


def some_audit(path: Path, rows: int, *, bad_every: int = 100, name: str = "orders.csv") -> Path:
    """Write an audit such as a run of many rows leaves: most accepted, some not."""
    numbers = list(range(1, rows + 1))
    bad = [number % bad_every == 0 for number in numbers]
    per_request = 400
    columns: dict[str, Any] = {
        "source_file": [name] * rows,
        "row_number": numbers,
        "line_number": [number + 1 for number in numbers],
        "state": ["invalid" if one else "accepted" for one in bad],
        "proof": ["REQUIRED before sending" if one else "200 with 400 of 400 uuids" for one in bad],
        "event_type": ["ECOMMERCE_ORDER_PLACED"] * rows,
        "event_key": [f"{number:064x}" for number in numbers],
        "contact": [f"{number * 7919:064x}" for number in numbers],
        "identifier": [f"PED-{number:07d}" for number in numbers],
        "event_uuid": [None if one else f"{n:036x}" for n, one in zip(numbers, bad, strict=True)],
        "error_code": ["REQUIRED" if one else None for one in bad],
        "error_column": ["email" if one else None for one in bad],
        "error_message": ["`email` is empty" if one else None for one in bad],
        "hint": ["fill it in" if one else None for one in bad],
        "run_id": ["r-1"] * rows,
    }
    sent = rows - sum(bad)
    requests = [
        {
            "request": f"{at:x}", "batch": at, "outcome": "accepted", "http_status": 200, "bytes": 199_000,
            "events": min(per_request, sent - at * per_request),
            "sent_at": (START + timedelta(seconds=at * 0.5)).isoformat(),
            "answered_at": (START + timedelta(seconds=at * 0.5 + 0.2)).isoformat(),
        }
        for at in range(-(-sent // per_request))
    ]  # fmt: skip
    run = {
        "run_id": "r-1",
        "event_type": "ECOMMERCE_ORDER_PLACED",
        "exports": [{"path": name, "rows": rows}],
    }
    facts = {"rd_import.run": json.dumps(run), "rd_import.requests": json.dumps(requests)}
    arrays = [
        pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(rows, field.type)
        for field in AUDIT_SCHEMA
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=AUDIT_SCHEMA.with_metadata(facts)), path)
    return path


def page_of(report: str) -> str:
    return html.unescape(Path(report).read_text("utf-8"))


@pytest.mark.usefixtures("sandbox")
def test_each_run_leaves_a_report_for_its_owner_alone(tmp_path: Path, rd_import: Command) -> None:
    audit = tmp_path / "x.audit.parquet"
    done = rd_import(SAMPLE_DATA / "orders.csv", *ORDER, "--audit", audit, "--json")

    report = Path(done.json["report"])
    assert report == tmp_path / "x.report.html"
    if os.name != "nt":
        assert report.stat().st_mode & 0o777 == 0o600
    page = page_of(report)
    assert "nothing reached RD Station" in page, "a report of practice says so first"
    assert "12 of 14 rows were received by the practice server." in page
    assert "The rows of all states are 14; the files hold 14 rows. <strong>adds up</strong>" in page
    assert "RD Station gave 12 different ids for 12 events accepted in this run." in page
    assert page.count("adds up") == 3
    assert "<code>email</code> is empty" in page
    assert "<code>orders.csv:5</code>" in page
    assert 'href="./x.rejected.csv"' in page
    assert "@example" not in page.replace("`", "")  # contacts only as hashes


@pytest.mark.usefixtures("sandbox")
def test_the_report_can_be_written_again_in_the_other_language(
    tmp_path: Path, rd_import: Command
) -> None:
    audit = tmp_path / "x.audit.parquet"
    rd_import(SAMPLE_DATA / "orders.csv", *ORDER, "--audit", audit)
    done = rd_import("report", audit, "--lang", "pt-BR")
    assert done.out == f"relatório: {tmp_path / 'x.report.html'}\n"
    page = page_of(str(tmp_path / "x.report.html"))
    assert '<html lang="pt-BR">' in page
    assert "12 de 14 linhas foram recebidas pelo servidor de treino." in page
    assert not re.search(r">[^<]*\b(the|were|rows)\b", page.partition("<script")[0])


def test_rows_without_an_answer_come_with_what_to_do(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(faults=(Fault("drop-after", at=(1,)),))
    audit = tmp_path / "x.audit.parquet"
    done = rd_import(SAMPLE_DATA / "orders.csv", *ORDER, "--audit", audit, "--json")
    page = page_of(done.json["report"])
    assert "Of 12 rows nobody knows whether they arrived" in page
    text = re.sub(r"<[^>]+>", "", page)
    assert f'rd-import resolve {done.json["run_id"]} --confirmed --why "…"' in text


def test_a_clean_run_has_no_empty_section(tmp_path: Path) -> None:
    """Everything went in one second to RD Station itself: nothing to explain, and no time line to draw."""
    audit = some_audit(tmp_path / "a.audit.parquet", 10, bad_every=11)
    page = page_of(str(write_report(audit).path))
    assert "All 10 rows were received by RD Station." in page
    assert "It does not report whether it processed them." in page
    assert "Why rows were not received" not in page
    assert "<rect" not in page


def test_sums_that_do_not_hold_are_called_out(tmp_path: Path, rd_import: Command) -> None:
    """An audit from which rows were cut must not look whole."""
    whole = some_audit(tmp_path / "a.audit.parquet", 1000)
    table = pq.read_table(whole)
    pq.write_table(table.slice(0, 900).replace_schema_metadata(table.schema.metadata), whole)
    rd_import("report", whole)
    page = page_of(str(tmp_path / "a.report.html"))
    assert "The rows of all states are 900; the files hold 1,000 rows." in page
    assert "does not add up" in page


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"a,b\n1,2\n"])
def test_what_is_no_audit_is_told(tmp_path: Path, rd_import: Command, content: bytes) -> None:
    path = tmp_path / "x.audit.parquet"
    path.write_bytes(content)
    done = rd_import("report", path)
    assert done.code == 2
    assert "is no audit of rd-import" in done.err


# --- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


HOSTILE = "<script>alert(1)</script></script><img src=x onerror=alert(1)>.csv"


@pytest.mark.browser
@pytest.mark.parametrize("lang", ["en", "pt-BR"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_in_a_browser(
    tmp_path: Path, rd_import: Command, browser: Browser, lang: str, scheme: str
) -> None:
    """Nothing is asked of the network, nothing complained about, and nobody is shut out."""
    audit = some_audit(tmp_path / "a.audit.parquet", 3000, name=HOSTILE)
    rd_import("report", audit, "--lang", lang)
    page = tmp_path / "a.report.html"

    for viewport in (PHONE, DESKTOP):
        with opened(browser, page.as_uri(), viewport=viewport, color_scheme=scheme) as looked:
            width = looked.page.evaluate("document.documentElement.scrollWidth")
            assert width <= viewport["width"]
            assert looked.complaints == []
            assert looked.requests == [page.as_uri()]
    assert violations(browser, page.read_text("utf-8"), color_scheme=scheme) == []


@pytest.mark.browser
def test_a_row_is_found_with_the_keyboard_alone(
    tmp_path: Path, rd_import: Command, browser: Browser
) -> None:
    rd_import("report", some_audit(tmp_path / "a.audit.parquet", 3000))
    with opened(browser, (tmp_path / "a.report.html").as_uri()) as looked:
        page = looked.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") != "find":
            page.locator("#find").focus()
        page.keyboard.type("PED-0000200")
        page.keyboard.press("Enter")
        assert page.locator("#found li").all_inner_texts() == [
            "invalid orders.csv, row 200, line 201, PED-0000200: `email` is empty"
        ]
        assert page.locator("#status").inner_text() == "1 found."
        for words, first in (
            ("ped-0000201", "accepted orders.csv, row 201, line 202, PED-0000201"),
            ("2999", "accepted orders.csv, row 2999"),
        ):
            page.locator("#find").fill(words)
            page.keyboard.press("Enter")
            assert page.locator("#found li").first.inner_text().startswith(first)
        page.locator("#find").fill("none such")
        page.keyboard.press("Enter")
        assert page.locator("#status").inner_text() == "Nothing found."
        assert looked.complaints == []


@pytest.mark.browser
def test_a_million_rows_are_a_small_page_that_opens_at_once(
    tmp_path: Path, rd_import: Command, browser: Browser
) -> None:
    """One row in a hundred is invalid: 10,000 of them are listed, and every row is found by its number."""
    rd_import("report", some_audit(tmp_path / "a.audit.parquet", 1_000_000))
    report = tmp_path / "a.report.html"
    assert report.stat().st_size <= 2_000_000

    with opened(browser, report.as_uri()) as looked:
        page = looked.page
        page.set_default_timeout(
            3000
        )  # milliseconds; 660 were measured, from the start of Chromium's page
        page.locator("#find").fill("999999")
        page.keyboard.press("Enter")
        assert (
            page.locator("#found li")
            .first.inner_text()
            .startswith("accepted orders.csv, row 999999")
        )
        page.locator("#find").fill("PED-0700000")
        page.keyboard.press("Enter")
        assert "invalid orders.csv, row 700000" in page.locator("#found li").first.inner_text()
        page.locator("#find").fill("PED-0700001")
        page.keyboard.press("Enter")
        assert "among the ids that this page holds" in page.locator("#status").inner_text()


@pytest.mark.browser
def test_a_report_stays_small_however_bad_the_file_is(tmp_path: Path, rd_import: Command) -> None:
    """Every second row invalid is the most runs that there can be; the page says what it leaves out."""
    rd_import("report", some_audit(tmp_path / "a.audit.parquet", 300_000, bad_every=2))
    report = tmp_path / "a.report.html"
    assert report.stat().st_size <= 2_000_000
    assert "the audit has them all." in page_of(str(report))
