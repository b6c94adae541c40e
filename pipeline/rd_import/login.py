"""A person authorises rd-import in the browser: the answer comes back to this machine alone, or is pasted.

Source: "Autenticação" of the API's pages: `/auth/dialog` leads back to the app's callback address with a `code`, which
works once.
"""

import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from rd_import.catalogue import language
from rd_import.errors import AccountError, JobError
from rd_import.messages import say

DIALOG_PATH: Final = "/auth/dialog"
CALLBACK_PATH: Final = "/callback"
PORT: Final = 8766
"""Of the callback address, which is registered with the app and so must not change from one login to the next."""
WAIT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Errand:
    """What a person is sent to the browser with; `state` proves that an answer belongs to it."""

    base_url: str
    client_id: str
    callback: str
    state: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def address(self) -> str:
        """Where the person approves."""
        asked = {"client_id": self.client_id, "redirect_uri": self.callback, "state": self.state}
        return f"{self.base_url}{DIALOG_PATH}?{urlencode(asked)}"

    def code_of(self, answer: str, *, pasted: bool = False) -> str:
        """Give the code of an answer: a callback's address, or the bare code where a person pasted it.

        Raises:
            AccountError: The person declined, or the answer is not to this errand.
        """
        if pasted and "=" not in answer:
            if answer.strip():
                return answer.strip()
            raise AccountError("login_no_code")
        given = parse_qs(urlsplit(answer.strip()).query)
        if not hmac.compare_digest(given.get("state", [""])[0].encode(), self.state.encode()):
            raise AccountError("login_other_state")
        if "code" not in given:
            raise AccountError("login_declined", reason=given.get("error", ["-"])[0])
        return given["code"][0]


class Callback:
    """Listens on this machine's own address for the one answer.

    Raises:
        JobError: The port is taken.
    """

    def __init__(self, port: int = PORT) -> None:
        try:
            self._server = HTTPServer(("127.0.0.1", port), _Handler)
        except OSError as error:
            reason = error.strerror or str(error)
            raise JobError("port_of_login_taken", port=port, reason=reason) from error
        self.address = f"http://localhost:{self._server.server_port}{CALLBACK_PATH}"

    def wait(self, errand: Errand, *, seconds: float = WAIT_S) -> str:
        """Wait for the browser to come back, and give the code that it brings; anything else is turned away.

        Raises:
            AccountError: The person declined, or nobody came.
        """
        found: list[str | AccountError] = []
        come = threading.Event()

        def take(path: str) -> bool:
            try:
                found.append(errand.code_of(path))
            except AccountError as error:
                if error.key == "login_other_state":
                    return False
                found.append(error)
            come.set()
            return True

        self._server.take = take  # type: ignore[attr-defined]
        serving = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="callback", daemon=True
        )
        serving.start()
        try:
            come.wait(seconds)
        finally:
            self._server.shutdown()
            serving.join()
            self._server.server_close()
        if not found:
            raise AccountError("login_nobody")
        if isinstance(found[0], AccountError):
            raise found[0]
        return found[0]


class _Handler(BaseHTTPRequestHandler):
    """Answers the browser; the code is in its address, so nothing is logged."""

    timeout = 5
    server_version = "rd-import"
    sys_version = ""

    def do_GET(self) -> None:
        if urlsplit(self.path).path != CALLBACK_PATH:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        take: Callable[[str], bool] = self.server.take  # type: ignore[attr-defined]
        taken = take(self.path)
        text = say("login.close" if taken else "login.not_ours")
        body = (
            f'<!doctype html><html lang="{language()}"><meta charset="utf-8"><title>rd-import</title>'
            f"<p>{escape(text)}</p></html>"
        ).encode()
        self.send_response(HTTPStatus.OK if taken else HTTPStatus.BAD_REQUEST)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", "default-src 'none'")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name that http.server uses
        """Say nothing."""
