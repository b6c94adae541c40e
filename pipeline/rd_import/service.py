"""The HTTP edge: one method, and its real client."""

import io
from typing import Protocol
from urllib.parse import urlsplit

import requests
from rdstation_events import api_facts

from rd_import.job import Account, is_loopback
from rd_import.outcome import Observation

CONNECT_TIMEOUT_S = 10.0
INSTANCE_HEADER = "X-RD-Sandbox-Instance"
LARGEST_ANSWER = 8 << 20  # bytes; an honest answer to 200,000 bytes of events is far smaller


class Service(Protocol):
    """Something that takes a body of events and answers."""

    def post(self, body: bytes) -> Observation:
        """Send one batch body; whatever happens is an observation, never an exception."""
        ...


class CountingBody:
    """A request body that counts what was asked of it: a reset early and one late raise the same exception."""

    def __init__(self, body: bytes) -> None:
        self._stream = io.BytesIO(body)
        self._length = len(body)
        self.asked_bytes = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> "CountingBody":  # requests takes it for a stream only if it could be iterated
        return self

    def __next__(self) -> bytes:
        chunk = self.read(1 << 16)
        if not chunk:
            raise StopIteration
        return chunk

    def read(self, size: int = -1) -> bytes:
        """Give the next bytes, and count them."""
        chunk = self._stream.read(size)
        self.asked_bytes += len(chunk)
        return chunk


class RdStation:
    """RD Station over HTTPS, or the sandbox over loopback.

    Redirects are not followed, environment proxies are used except on loopback, and nothing is retried here.
    """

    def __init__(self, account: Account, *, timeout_s: float = 60.0) -> None:
        self._account = account
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.trust_env = not is_loopback(account.base_url)
        self._session.headers.update({"Accept": "application/json", "Content-Type": "application/json"})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def post(self, body: bytes) -> Observation:
        """Send one batch body to the batch endpoint."""
        counted = CountingBody(body)
        try:
            with self._session.post(
                self._account.base_url + api_facts.BATCH_PATH,
                data=counted,
                headers={"Authorization": f"Bearer {self._account.token}"},
                timeout=(CONNECT_TIMEOUT_S, self._timeout_s),
                allow_redirects=False,
                stream=True,
            ) as answer:
                content = answer.raw.read(LARGEST_ANSWER, decode_content=True)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Observation(answer.status_code, headers, content, counted.asked_bytes)
        except (requests.RequestException, OSError, ValueError) as error:
            return Observation(None, asked_bytes=counted.asked_bytes, failure=_in_words(error))
        except Exception as error:  # noqa: BLE001 -- urllib3 raises its own kinds while a body is read
            return Observation(None, asked_bytes=counted.asked_bytes, failure=_in_words(error))

    def instance(self) -> str | None:
        """Ask a loopback server whether it is a sandbox, and which; None where it is none or does not answer."""
        if not is_loopback(self._account.base_url):
            return None
        try:
            answer = self._session.get(
                self._account.base_url + "/stats", timeout=CONNECT_TIMEOUT_S, allow_redirects=False
            )
        except requests.RequestException:
            return None
        return answer.headers.get(INSTANCE_HEADER)


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
    }
    return reason.get(type(error).__name__, type(error).__name__)
