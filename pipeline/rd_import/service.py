"""The HTTP edge: one method, and its real client."""

import io
import time
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

import requests

from rd_import.auth import Credentials
from rd_import.errors import AccountError
from rd_import.job import Account, is_loopback
from rd_import.outcome import Observation
from rd_import.pack import body_of
from rdstation_events import api_facts

CONNECT_TIMEOUT_S = 10.0
MARK_HOLDS_S = (
    CONNECT_TIMEOUT_S + 5.0
)  # from the mark in the ledger to the first byte, connecting included
MAX_CONNECTIONS = 16
INSTANCE_HEADER = "X-RD-Sandbox-Instance"
LARGEST_ANSWER = 8 << 20  # bytes; an honest answer to 200,000 bytes of events is far smaller


class Service(Protocol):
    """Something that takes events and answers."""

    max_events: int | None
    """Events of one request, where the route takes fewer than fit."""

    def post(self, events: Sequence[bytes], marked_at: float) -> Observation:
        """Send events in one request; whatever happens is an observation, never an exception.

        Args:
            events: Encoded events.
            marked_at: When the ledger marked them as sent, in seconds since 1970. Where the machine slept since, no
                byte leaves: somebody may have given the request up and decided on its events.
        """
        ...

    def renew(self, stale: int) -> bool:
        """Get a new access token, unless somebody did since generation `stale`; tell whether RD Station was asked.

        Raises:
            AccountError: A person must authorise again.
            ServiceError: RD Station gave no usable answer.
        """
        ...


class StaleMarkError(Exception):
    """The mark in the ledger is too old to send by it."""


class CountingBody:
    """A request body that counts what was asked of it: a reset early and one late raise the same exception.

    Its first byte is given only while the mark in the ledger is fresh. That is told by the time of day, which goes on
    while a machine sleeps.
    """

    def __init__(self, body: bytes, marked_at: float) -> None:
        self._stream = io.BytesIO(body)
        self._length = len(body)
        self._marked_at = marked_at
        self.asked_bytes = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(
        self,
    ) -> "CountingBody":  # requests takes it for a stream only if it could be iterated
        return self

    def __next__(self) -> bytes:
        chunk = self.read(1 << 16)
        if not chunk:
            raise StopIteration
        return chunk

    def read(self, size: int = -1) -> bytes:
        """Give the next bytes, and count them.

        Raises:
            StaleMarkError: The first byte is asked for too long after the mark.
        """
        if not self.asked_bytes and time.time() - self._marked_at > MARK_HOLDS_S:
            raise StaleMarkError
        chunk = self._stream.read(size)
        self.asked_bytes += len(chunk)
        return chunk


class RdStation:
    """RD Station over HTTPS, or the sandbox over loopback.

    Redirects are not followed, environment proxies are used except on loopback, and nothing is retried here.
    """

    def __init__(
        self, account: Account, credentials: Credentials, *, timeout_s: float = 60.0
    ) -> None:
        self._account = account
        self._credentials = credentials
        self._timeout_s = timeout_s
        self.max_events = 1 if account.uses_api_key else None
        self._session = requests.Session()
        self._session.trust_env = not is_loopback(account.base_url)
        self._session.headers.update(
            {"Accept": "application/json", "Content-Type": "application/json"}
        )
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=MAX_CONNECTIONS)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, adapter)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def renew(self, stale: int) -> bool:
        """Get a new access token; tell whether RD Station was asked for it."""
        return self._credentials.renew(stale)

    def ready(self) -> None:
        """Make sure that there is an access token before anything is sent.

        Raises:
            AccountError: A person must authorise again.
            ServiceError: RD Station gave no usable answer.
        """
        if not self._account.uses_api_key and not self._credentials.access:
            raise AccountError("no_credentials")

    def post(self, events: Sequence[bytes], marked_at: float) -> Observation:
        """Send events by the route that fits: one alone, several as a batch, or one with the API key."""
        counted = CountingBody(events[0] if len(events) == 1 else body_of(events), marked_at)
        generation = self._credentials.generation
        try:
            path, headers = self._route(len(events))
            with self._session.post(
                self._account.base_url + path,
                params={"api_key": self._account.api_key} if self._account.uses_api_key else None,
                data=counted,
                headers=headers,
                timeout=(CONNECT_TIMEOUT_S, self._timeout_s),
                allow_redirects=False,
                stream=True,
            ) as answer:
                content = answer.raw.read(LARGEST_ANSWER, decode_content=True)
                names = {name.lower(): value for name, value in answer.headers.items()}
                return Observation(
                    answer.status_code, names, content, counted.asked_bytes, generation=generation
                )
        except Exception as error:  # noqa: BLE001 -- urllib3 raises its own kinds while a body is read
            return Observation(
                None,
                asked_bytes=counted.asked_bytes,
                failure=_in_words(error),
                generation=generation,
            )

    def _route(self, events: int) -> tuple[str, dict[str, str]]:
        if self._account.uses_api_key:
            return api_facts.CONVERSIONS_PATH, {}
        path = api_facts.SINGLE_PATH if events == 1 else api_facts.BATCH_PATH
        return path, {"Authorization": f"Bearer {self._credentials.access}"}

    def instance(self) -> str | None:
        """Ask a loopback server whether it is a sandbox, and which; None where it is none or does not answer."""
        if not is_loopback(self._account.base_url):
            return None
        try:
            with self._session.get(
                self._account.base_url + "/stats",
                timeout=CONNECT_TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            ) as answer:
                return answer.headers.get(INSTANCE_HEADER)
        except requests.RequestException:
            return None


def scope_of(account: Account, instance: str | None) -> str:
    """Name what event keys are unique within: endpoint and account; a sandbox's instance; or all of loopback."""
    if instance is not None:
        return f"sandbox {instance}"
    if is_loopback(account.base_url):
        return f"loopback {account.label}"
    parts = urlsplit(account.base_url)
    return f"{parts.scheme}://{parts.netloc} {account.label}"


def _in_words(error: BaseException) -> str:
    """Name a failure without the address, which may carry a key."""
    reason = {
        "ReadTimeout": "no answer in time",
        "ConnectTimeout": "no connection in time",
        "SSLError": "the TLS connection could not be trusted",
        "ProxyError": "the proxy refused",
        "ConnectionError": "the connection failed or broke",
        "ChunkedEncodingError": "the answer broke off",
        "ProtocolError": "the answer broke off",
        "IncompleteRead": "the answer broke off",
        "ReadTimeoutError": "the answer stopped",
        "StaleMarkError": "the machine slept before the request began",
    }
    return reason.get(type(error).__name__, type(error).__name__)
