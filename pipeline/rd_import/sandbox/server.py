"""HTTP: reads requests, has them answered by `behaviour` or `page`, writes the answers."""

import contextlib
import logging
import os
import re
import secrets
import socket
import socketserver
import sys
import threading
import time
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self
from urllib.parse import parse_qsl

from rd_import.sandbox.behaviour import Request, Response, State, answer
from rd_import.sandbox.page import look
from rd_import.sandbox.rules import load_rules
from rd_import.sandbox.store import Store, StoredEvent, StoredRequest
from rdstation_events.api_facts import MAX_BODY_BYTES

_log = logging.getLogger(__name__)

INSTANCE_HEADER: Final = "X-RD-Sandbox-Instance"
"""On every answer; a new instance has forgotten everything."""


class Sandbox:
    """A local RD Station. It holds its port from the moment it is made until `stop`.

    Use it as a context manager (it serves in a daemon thread), or call `serve_forever`.
    """

    url: str
    """As in `http://127.0.0.1:8080`."""
    token: str
    """The Bearer token it accepts."""
    api_key: str
    """The key it accepts on `/platform/conversions`."""
    instance: str
    """Random; names this instance in every answer."""

    def __init__(
        self,
        *,
        port: int = 0,
        token: str | None = None,
        host: str = "127.0.0.1",
        access_log: bool = False,
    ) -> None:
        self.token = token or secrets.token_urlsafe(24)
        self.api_key = secrets.token_hex(16)
        self.instance = secrets.token_hex(8)
        self._store = Store(clock=lambda: datetime.now(UTC), entropy=os.urandom)
        state = State(self.instance, self.token, self.api_key, load_rules(), self._store)
        self._server = _Server(host, port, state, access_log=access_log)
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._server.server_port}"
        self._serving: threading.Thread | None = None
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve in a daemon thread."""
        self._serving = threading.Thread(target=self._serve, name="rd-sandbox", daemon=True)
        self._serving.start()

    def serve_forever(self) -> None:
        """Serve in this thread until `stop` is called, by another thread or a signal handler."""
        self._serving = threading.current_thread()
        self._serve()

    def stop(self) -> None:
        """Answer what is being asked, close every connection, give the port back.

        In a signal handler that interrupted `serve_forever` it only asks for the end: to wait there
        for the interrupted thread would take for ever. Harmless when repeated.
        """
        self._server.stopping = True
        if self._serving is None:
            self._server.server_close()
        elif self._serving is not threading.current_thread():
            self._closed.wait()

    def _serve(self) -> None:
        try:
            self._server.serve()
        finally:
            self._closed.set()

    def events(self) -> list[StoredEvent]:
        """Accepted events, in the order of acceptance."""
        return self._store.events()

    def requests(self) -> list[StoredRequest]:
        """Every POST, in the order answered."""
        return self._store.requests()


_Connection = socket.socket | tuple[bytes, socket.socket]
"""As the types of socketserver have it; the second is for UDP."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    # Elsewhere the option lets two processes have one port.
    allow_reuse_address = os.name == "posix"
    # How often `serve` looks whether it is to stop, in seconds.
    timeout = 0.05

    def __init__(self, host: str, port: int, state: State, *, access_log: bool) -> None:
        self.state = state
        self.access_log = access_log
        self.stopping = False
        self._open: set[_Connection] = set()
        self._open_changed = threading.Condition()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer asks DNS for the machine's name here, which can take seconds; nobody needs it.
        socketserver.TCPServer.server_bind(self)
        name, self.server_port = self.server_address[:2]
        self.server_name = str(name)

    def serve(self) -> None:
        # Not the inherited serve_forever: its shutdown cannot be called from a signal handler.
        try:
            while not self.stopping:
                self.handle_request()
        finally:
            self.server_close()
            self._close_connections()

    def process_request(self, request: _Connection, client_address: tuple[str, int]) -> None:
        with self._open_changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: _Connection) -> None:
        super().shutdown_request(request)
        with self._open_changed:
            self._open.discard(request)
            self._open_changed.notify_all()

    def _close_connections(self) -> None:
        """End idle connections at once, busy ones after their answer, and after 5 s all of them."""
        for how in (socket.SHUT_RD, socket.SHUT_RDWR):
            deadline = time.monotonic() + 5
            with self._open_changed:
                for connection in self._open:
                    if isinstance(connection, socket.socket):
                        with contextlib.suppress(OSError):
                            connection.shutdown(how)
                self._open_changed.wait_for(lambda: not self._open, deadline - time.monotonic())

    def handle_error(self, request: _Connection, client_address: tuple[str, int]) -> None:
        # A client that goes away is not our mistake; everything else shows its traceback.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server

    def _exchange(self) -> None:
        request = self._receive()
        respond = answer if request.method == "POST" else look
        response = respond(request, self.server.state)
        self._send(response)
        if self.server.access_log:
            # Without the query: it may hold an API key.
            _log.info(
                "sandbox.answered method=%s path=%s status=%d bytes=%d",
                request.method,
                request.path,
                response.status,
                request.body_bytes,
            )

    do_GET = do_POST = do_DELETE = _exchange  # noqa: N815 - the names that http.server looks for

    def _receive(self) -> Request:
        size, length_error = self._body_length()
        body = self._read_body(size)
        path, _, query = self.path.partition("?")
        return Request(
            method=self.command,
            path=path,
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            body_bytes=size,
            length_error=length_error,
        )

    def _body_length(self) -> tuple[int, HTTPStatus | None]:
        """Give the length of the body; a connection where it is not known is of no more use."""
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or (self.command == "POST" and not lengths):
            self.close_connection = True
            return 0, HTTPStatus.LENGTH_REQUIRED
        if not lengths:
            return 0, None
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0].strip()):
            self.close_connection = True
            return 0, HTTPStatus.BAD_REQUEST
        return int(lengths[0]), None

    def _read_body(self, size: int) -> bytes:
        """Read a body; one that is too long is thrown away, so that the next request is found.

        Raises:
            ConnectionAbortedError: The client went away in the middle.
        """
        if size <= MAX_BODY_BYTES:
            return self._read_exactly(size)
        if size > _MOST_DISCARDED:
            self.close_connection = True
            return b""
        for start in range(0, size, MAX_BODY_BYTES):
            self._read_exactly(min(MAX_BODY_BYTES, size - start))
        return b""

    def _read_exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionAbortedError
        return data

    def _send(self, response: Response) -> None:
        if self.server.stopping:
            self.close_connection = True
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(response.body)
        self.wfile.flush()

    def end_headers(self) -> None:
        self.send_header(INSTANCE_HEADER, self.server.state.instance)
        super().end_headers()

    def handle_expect_100(self) -> bool:
        super().handle_expect_100()
        self.wfile.flush()  # the client waits for it before it sends the body
        return True

    def version_string(self) -> str:
        return "rd-import-sandbox"

    def log_message(self, *_: object) -> None:
        """Say nothing: the inherited line holds the query, and with it the API key."""


_LENGTH: Final = re.compile("[0-9]{1,18}")

_MOST_DISCARDED: Final = 16 * 1024 * 1024
"""A longer body is not read at all: the client may see a reset instead of the 413."""
