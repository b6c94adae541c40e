"""HTTP: reads requests, has them answered by `exchange` or `page`, writes the answers."""

import contextlib
import logging
import os
import re
import secrets
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self
from urllib.parse import parse_qsl

from rd_import.sandbox.behaviour import Request, Response, State
from rd_import.sandbox.exchange import Delivery, Faults, exchange, remember_reset
from rd_import.sandbox.limits import ContactLimiter, Contacts, Quota
from rd_import.sandbox.page import look
from rd_import.sandbox.rules import load_rules
from rd_import.sandbox.store import Store, StoredEvent, StoredRequest
from rd_import.sandbox.switches import LARGEST_BODY, Behaviour
from rd_import.sandbox.tokens import Tokens

_log = logging.getLogger(__name__)

INSTANCE_HEADER: Final = "X-RD-Sandbox-Instance"
"""On every answer; a new instance has forgotten everything."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Sandbox:
    """A local RD Station. It holds its port from the moment it is made until `stop`.

    Use it as a context manager (it serves in a daemon thread), or call `serve_forever`.

    Args:
        port: 0 takes any free one.
        token: The first access token; random unless given.
        host: The address to listen on.
        access_log: Log a line for each request.
        behaviour: Where it differs from the strict reading of the API's pages.
        clock: Gives the time, aware, in UTC; limits, tokens and what comes late go by it.
        sleep: Waits, where an answer is to be slow; unless given, really, but not beyond `stop`.
    """

    url: str
    """As in `http://127.0.0.1:8080`."""
    token: str
    """The first Bearer token it accepts."""
    api_key: str
    """The key it accepts on `/platform/conversions`."""
    client_id: str
    client_secret: str
    """What `/auth/token` asks for beside the refresh token."""
    instance: str
    """Random; names this instance in every answer."""

    def __init__(
        self,
        *,
        port: int = 0,
        token: str | None = None,
        host: str = "127.0.0.1",
        access_log: bool = False,
        behaviour: Behaviour | None = None,
        clock: Callable[[], datetime] = _utc_now,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._tokens = Tokens(clock, token)
        self.token = self._tokens.first
        self.client_id, self.client_secret = self._tokens.client_id, self._tokens.client_secret
        self.api_key = secrets.token_hex(16)
        self.instance = secrets.token_hex(8)
        self._store = Store(clock=clock, entropy=os.urandom)
        state = State(
            instance=self.instance,
            api_key=self.api_key,
            behaviour=behaviour or Behaviour(),
            tokens=self._tokens,
            quota=Quota(clock),
            limiter=ContactLimiter(clock),
            contacts=Contacts(clock),
            store=self._store,
        )
        load_rules()  # a catalogue that is not understood is to be known now
        self._server = _Server(host, port, state, Faults(clock), access_log=access_log, sleep=sleep)
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._server.server_port}"
        self._serving: threading.Thread | None = None
        self._closed = threading.Event()

    @property
    def refresh_token(self) -> str:
        """The refresh token that is good now."""
        return self._tokens.refresh_token

    @property
    def refreshes(self) -> int:
        """How often a new access token was given."""
        return self._tokens.refreshes

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves. A new one holds from the next request on; what was counted stays so."""
        return self._server.state.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._server.state = replace(self._server.state, behaviour=behaviour)

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

        What was still to be registered late is registered.

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
            self._store.settle()
            self._closed.set()

    def events(self) -> list[StoredEvent]:
        """Registered events, whether their sender was told or not, in the order of acceptance."""
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

    def __init__(
        self,
        host: str,
        port: int,
        state: State,
        faults: Faults,
        *,
        access_log: bool,
        sleep: Callable[[float], None] | None,
    ) -> None:
        self.state = state
        self.faults = faults
        self.pause = sleep or self._pause
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

    def _pause(self, seconds: float) -> None:
        # In small steps, so that a slow answer does not outlive the sandbox.
        ends = time.monotonic() + seconds
        while not self.stopping and (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

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

    def _post(self) -> None:
        state = self.server.state
        path, _, _ = self.path.partition("?")
        fault = self.server.faults.strike(path, state.behaviour)
        if fault is not None and fault.kind == "reset-early":
            remember_reset(path, self._body_length()[0], state)
            self._reset()
            return
        request = self._receive(state.behaviour.max_body_bytes)
        delivery = exchange(request, state, fault)
        if delivery.wait_s:
            self.server.pause(delivery.wait_s)
        self._deliver(delivery)
        self._log(request, delivery.response.status if delivery.response else 0)

    def _look(self) -> None:
        request = self._receive(_MOST_READ_OF_A_LOOK)
        response = look(request, self.server.state)
        self._send(response)
        self._log(request, response.status)

    do_POST = _post  # noqa: N815 - the names that http.server looks for
    do_GET = do_DELETE = _look  # noqa: N815

    def _log(self, request: Request, status: int) -> None:
        if self.server.access_log:
            # Without the query: it may hold an API key.
            _log.info(
                "sandbox.answered method=%s path=%s status=%d bytes=%d",
                request.method,
                request.path,
                status,
                request.body_bytes,
            )

    def _receive(self, most: int) -> Request:
        size, length_error = self._body_length()
        body = self._read_body(size, most)
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

    def _read_body(self, size: int, most: int) -> bytes:
        """Read a body; one that is too long is thrown away, so that the next request is found.

        Raises:
            ConnectionAbortedError: The client went away in the middle.
        """
        if size <= most:
            return self._read_exactly(size)
        if size > LARGEST_BODY:
            self.close_connection = True
            return b""
        for start in range(0, size, _CHUNK):
            self._read_exactly(min(_CHUNK, size - start))
        return b""

    def _read_exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionAbortedError
        return data

    def _deliver(self, delivery: Delivery) -> None:
        if delivery.response is None:
            self.close_connection = True
        else:
            self._send(delivery.response, is_cut=delivery.is_cut)

    def _reset(self) -> None:
        """Close at once, with a reset instead of a farewell."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_FAREWELL)
        socket.close(self.connection.detach())  # what is still open on it would only delay it

    def _send(self, response: Response, *, is_cut: bool = False) -> None:
        if self.server.stopping or is_cut:
            self.close_connection = True
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection and not is_cut:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(response.body[: len(response.body) // 2] if is_cut else response.body)
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

_CHUNK: Final = 1 << 16

_MOST_READ_OF_A_LOOK: Final = 0
"""Nobody says anything in the body of a GET or a DELETE."""

_NO_FAREWELL: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
"""SO_LINGER on, for no time: what is unsent is forgotten, and the other side gets a reset."""
