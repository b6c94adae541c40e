"""A person allows rd-import once, in the browser; only the right answer counts, and the tokens stay private."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests

from command_line import SAMPLE_DATA
from conftest import Command
from rd_import.errors import AccountError
from rd_import.login import Callback, Errand
from rd_import.sandbox import Sandbox

ORDER = (SAMPLE_DATA / "orders.csv", "--type", "ECOMMERCE_ORDER_PLACED", "--audit")
APPROVE, DECLINE = "allow", "decline"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox whose app the environment names, and no token."""
    with Sandbox() as found:
        monkeypatch.setenv("RD_IMPORT_BASE_URL", found.url)
        monkeypatch.setenv("RD_IMPORT_CLIENT_ID", found.client_id)
        monkeypatch.setenv("RD_IMPORT_CLIENT_SECRET", found.client_secret)
        yield found


def clicked(address: str, link: str) -> str:
    """Open the page where the app is allowed, and give the address that a link of it leads to."""
    page = requests.get(address, timeout=10).text
    [found] = re.findall(rf'<a id="{link}" href="([^"]+)"', page)
    return found.replace("&amp;", "&")


def as_a_person(
    monkeypatch: pytest.MonkeyPatch, link: str, *, first: Callable[[str], None] = lambda _: None
) -> None:
    """Have a person stand in for the browser that the command opens."""

    def browse(address: str) -> bool:
        def go() -> None:
            back = clicked(address, link)
            first(back)
            assert requests.get(back, timeout=10).status_code == 200

        threading.Thread(target=go, daemon=True).start()
        return True

    monkeypatch.setattr("webbrowser.open", browse)


def test_after_a_login_no_variable_is_needed(
    tmp_path: Path, rd_import: Command, server: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_a_person(monkeypatch, APPROVE)
    done = rd_import("login", "--port", 0)
    assert (done.code, server.refreshes) == (0, 1)
    assert "logged in as account `default`" in done.out
    assert "only you can read" in done.err  # there is no keyring here
    store = tmp_path / "state" / "rd-import" / "tokens.json"
    if os.name != "nt":
        assert store.stat().st_mode & 0o777 == 0o600
    for shown in (done.out, done.err):
        assert server.client_secret not in shown
        assert server.refresh_token not in shown

    monkeypatch.delenv("RD_IMPORT_CLIENT_ID")
    monkeypatch.delenv("RD_IMPORT_CLIENT_SECRET")
    sent = rd_import(*ORDER, tmp_path / "a.parquet", "--json")
    assert sent.json["states"]["accepted"] == 12

    assert "logged out" in rd_import("logout").out
    assert server.refresh_token not in store.read_text("utf-8")
    again = rd_import(*ORDER, tmp_path / "b.parquet")
    assert again.code == 4
    assert "rd-import login" in again.err
    assert "nobody was logged in" in rd_import("logout").out


def test_an_answer_to_another_login_is_turned_away(
    rd_import: Command, server: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise somebody's link could have this machine send to their account."""

    def forge(back: str) -> None:
        parts = urlsplit(back)
        code = parse_qs(parts.query)["code"][0]
        for query in ({"code": code}, {"code": code, "state": "theirs"}):
            forged = parts._replace(query=urlencode(query)).geturl()
            assert requests.get(forged, timeout=10).status_code == 400

    as_a_person(monkeypatch, APPROVE, first=forge)
    assert rd_import("login", "--port", 0).code == 0


def test_who_declines_is_told_so(
    rd_import: Command, server: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_a_person(monkeypatch, DECLINE)
    done = rd_import("login", "--port", 0)
    assert done.code == 4
    assert "access_denied" in done.err
    assert server.refreshes == 0


class Typed:
    """A terminal into which a person pastes one line."""

    def __init__(self, line: Callable[[], str]) -> None:
        self._line = line

    def readline(self) -> str:
        return self._line() + "\n"


@pytest.mark.parametrize("whole_address", [True, False])
def test_a_code_can_be_pasted(
    rd_import: Command,
    server: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    whole_address: bool,
) -> None:
    def paste() -> str:
        shown = capsys.readouterr().err
        [address] = re.findall(r"http://\S+/auth/dialog\S+", shown)
        back = clicked(address, APPROVE)
        return back if whole_address else parse_qs(urlsplit(back).query)["code"][0]

    monkeypatch.setattr("rd_import.commands.ask.open_terminal", lambda: Typed(paste))
    assert rd_import("login", "--paste").code == 0
    assert server.refreshes == 1


def test_a_code_works_once(
    rd_import: Command, server: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rd_import.commands.ask.open_terminal", lambda: Typed(lambda: "used-or-made-up")
    )
    done = rd_import("login", "--paste")
    assert done.code == 4
    assert "did not take the code (HTTP 401)" in done.err


def test_the_app_must_be_named(rd_import: Command) -> None:
    done = rd_import("login")
    assert done.code == 2
    assert "http://localhost:8766/callback" in done.err


def test_a_pasted_address_of_another_login_is_refused() -> None:
    errand = Errand("https://api.rd.services", "app", "http://localhost:8766/callback")
    with pytest.raises(AccountError, match="another login"):
        errand.code_of("http://localhost:8766/callback?code=c&state=theirs", pasted=True)
    with pytest.raises(AccountError, match="no code"):
        errand.code_of("  \n", pasted=True)


def test_nobody_comes_back() -> None:
    listening = Callback(0)
    errand = Errand("https://api.rd.services", "app", listening.address)
    with pytest.raises(AccountError, match="nobody came back"):
        listening.wait(errand, seconds=0.01)


def test_the_callback_listens_on_this_machine_alone() -> None:
    listening = Callback(0)
    assert listening._server.server_address[0] == "127.0.0.1"
    listening._server.server_close()
