"""Who may send: access tokens that end, and the refresh token that brings new ones."""

import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from rd_import.sandbox.switches import Behaviour
from rdstation_events.api_facts import ACCESS_TOKEN_SECONDS


@dataclass(slots=True)
class _Life:
    """What is left of an access token is a matter of these two."""

    born: float
    uses: int = 0


class Tokens:
    """The credentials of one sandbox; safe to use from many threads.

    Assumed: a refresh ends no access token that was given before; each ends by itself.
    """

    def __init__(self, clock: Callable[[], datetime], first: str | None = None) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.first = first or secrets.token_urlsafe(24)
        self.client_id = secrets.token_hex(8)
        self.client_secret = secrets.token_hex(16)
        self.refresh_token = secrets.token_urlsafe(24)
        self.refreshes = 0
        self._codes: set[str] = set()
        self._lives = {self.first: _Life(clock().timestamp())}

    def is_ours(self, given: str) -> bool:
        """Tell whether this sandbox gave the token, and has not seen it end; not a use of it."""
        with self._lock:
            return same(given, self.first) or any(same(given, token) for token in self._lives)

    def use(self, given: str, behaviour: Behaviour) -> bool:
        """Use a token for one POST; False where it is unknown or at its end."""
        with self._lock:
            found = next((token for token in self._lives if same(given, token)), None)
            if found is None:
                return False
            life = self._lives[found]
            life.uses += 1
            if self._has_ended(life, behaviour):
                del self._lives[found]
                return False
            return True

    def grant(self) -> str:
        """Give a code for the person who allows an app; it works once."""
        with self._lock:
            code = secrets.token_urlsafe(16)
            self._codes.add(code)
            return code

    def redeem(self, code: str, behaviour: Behaviour) -> dict[str, object] | None:
        """Give tokens for a code as the API writes them; None where it is no good, or no more."""
        with self._lock:
            if code not in self._codes:
                return None
            self._codes.remove(code)
            refresh_token = self.refresh_token
        return self.renew(refresh_token, behaviour)

    def renew(self, refresh_token: str, behaviour: Behaviour) -> dict[str, object] | None:
        """Give a new access token as the API writes it; None where the refresh token is no good."""
        with self._lock:
            if not same(refresh_token, self.refresh_token):
                return None
            if behaviour.refresh_rotates:
                self.refresh_token = secrets.token_urlsafe(24)
            self.refreshes += 1
            token = secrets.token_urlsafe(24)
            self._lives[token] = _Life(self._clock().timestamp())
            seconds = behaviour.token_seconds
            return {
                "access_token": token,
                "expires_in": ACCESS_TOKEN_SECONDS if seconds is None else int(seconds),
                "refresh_token": self.refresh_token,
            }

    def _has_ended(self, life: _Life, behaviour: Behaviour) -> bool:
        most, seconds = behaviour.token_lives_requests, behaviour.token_seconds
        if most is not None and life.uses > most:
            return True
        return seconds is not None and self._clock().timestamp() - life.born >= seconds


def same(given: str, secret: str) -> bool:
    """Compare with a secret, in a time that tells nothing of it."""
    return hmac.compare_digest(given.encode(), secret.encode())
