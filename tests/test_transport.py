"""Where requests may go, and what a mapping file may be."""

import contextlib
import gzip
import http.server
import resource
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Command
from rd_import.auth import Credentials, FileStore
from rd_import.errors import ServiceError
from rd_import.job import Account
from rd_import.outcome import NotAccepted, Unknown, judge
from rd_import.sandbox import Sandbox
from rd_import.service import LARGEST_ANSWER, RdStation
from rig import TYPE, orders, save


def test_plain_http_goes_to_this_machine_only(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RD_IMPORT_TOKEN", "token")
    path = save(tmp_path / "a.csv", orders(1))
    for url in ("http://api.rd.services", "http://127.0.0.1.example.com", "http://me@10.0.0.1:80"):
        done = rd_import(path, *TYPE, "--yes", "--base-url", url)
        assert done.code == 2, url
        assert "plain http" in done.err


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """Answers every request by pointing to another address, and remembers who came."""

    asked: list[str] = []  # noqa: RUF012 -- one server, one test
    to = ""

    def do_POST(self) -> None:
        self.asked.append(self.headers.get("Authorization", ""))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(307)
        self.send_header("Location", self.to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 -- the base class calls it so

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up on a certificate or an endless answer is what these tests want."""


@pytest.fixture
def elsewhere() -> Iterator[http.server.ThreadingHTTPServer]:
    _Elsewhere.asked = []
    with _Server(("127.0.0.1", 0), _Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_redirect_is_not_followed(
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
    elsewhere: http.server.ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other address gets neither token nor data, and the run stops."""
    _Elsewhere.to = f"{sandbox.url}/platform/events"
    monkeypatch.setenv("RD_IMPORT_BASE_URL", f"http://127.0.0.1:{elsewhere.server_address[1]}")
    done = rd_import(save(tmp_path / "a.csv", orders(1)), *TYPE, "--json")
    assert done.code == 1
    assert done.json["states"] == {"not_sent": 1}
    assert f"Bearer {sandbox.token}" in _Elsewhere.asked
    assert sandbox.requests() == []


def test_a_certificate_that_nobody_vouches_for_is_refused(
    tmp_path: Path, elsewhere: http.server.ThreadingHTTPServer
) -> None:
    """No byte of the token leaves."""
    made = subprocess.run(
        ["openssl",  # noqa: S607 -- wherever the system has it
          "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")],
        capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    elsewhere.socket = context.wrap_socket(
        elsewhere.socket, server_side=True, do_handshake_on_connect=False
    )
    account = Account(token="a" * 20, base_url=f"https://localhost:{elsewhere.server_address[1]}")
    credentials = Credentials(account, store=lambda: FileStore(tmp_path / "t"), lock=tmp_path / "l")
    service = RdStation(account, credentials)
    seen = service.post([b"{}"], time.time())
    service.close()
    assert seen.status is None
    assert seen.asked_bytes == 0
    assert "TLS" in seen.failure
    assert isinstance(judge(seen, 1), NotAccepted)
    assert _Elsewhere.asked == []


def test_a_mapping_file_is_bounded(tmp_path: Path, rd_import: Command) -> None:
    path = save(tmp_path / "a.csv", orders(1))
    for text, why in (
        ("# " + "a" * (1 << 20), "longer than"),
        ("a = " + "[" * 100_000, "too deeply"),
        ("a" + ".a" * 20_000 + " = 1", ""),
    ):
        mapping = tmp_path / "m.toml"
        mapping.write_text(text, "utf-8")
        done = rd_import("check", path, *TYPE, "--map", mapping)
        assert done.code == 2
        assert why in done.err


class _Bomb(http.server.BaseHTTPRequestHandler):
    """Answers every request with little that unpacks to much."""

    protocol_version = "HTTP/1.1"
    answer = gzip.compress(b"a" * (32 << 20)) * 20

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.answer)

    do_GET = do_POST  # noqa: N815 -- the base class calls it so

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
        pass


def test_an_answer_that_unpacks_without_end_is_not_unpacked(
    tmp_path: Path, elsewhere: http.server.ThreadingHTTPServer
) -> None:
    """640 MB in 600 kB, for events, for a token, and from a server that claims to be a sandbox."""
    elsewhere.RequestHandlerClass = _Bomb
    url = f"http://127.0.0.1:{elsewhere.server_address[1]}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for account in (
        Account(token="a" * 20, base_url=url),
        Account(client_id="a", client_secret="b", refresh_token="c", base_url=url),  # noqa: S106 -- none
    ):
        credentials = Credentials(
            account, store=lambda: FileStore(tmp_path / "t"), lock=tmp_path / "l"
        )
        service = RdStation(account, credentials)
        assert service.instance() is None
        if account.token:
            seen = service.post([b"{}"], time.time())
            assert len(seen.body) <= LARGEST_ANSWER
            assert isinstance(judge(seen, 1), Unknown)
        else:
            with pytest.raises(ServiceError):
                service.ready()
        service.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
