"""Tokens: where they come from, how they are renewed, where a renewed one is kept.

The environment is a seed. RD Station may rotate the refresh token, so whatever comes back is stored before the new
access token is used: in the system's keyring where the `keyring` package is installed and works, else in a file that
only its owner can read.
"""

import base64
import binascii
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

import filelock
import requests
from urllib3.exceptions import HTTPError

from rd_import.errors import AccountError, ServiceError
from rd_import.job import Account, is_loopback
from rd_import.nesting import read_json
from rd_import.places import make_durable, new_file, put_in_place, temporary_of
from rd_import.run_folder import private_folder

LOG = logging.getLogger("rd_import")
TOKEN_PATH: Final = "/auth/token"  # noqa: S105 -- a path; source: "Atualizar access token"
TIMEOUT_S: Final = 30.0
LARGEST_ANSWER: Final = 1 << 20  # bytes, once unpacked; tokens take a few hundred
STABLE_CLAIMS: Final = ("iss", "account_id", "accountId", "sub", "client_id", "clientId")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What is stored of one account; never shown."""

    access: str = field(default="", repr=False)
    refresh: str = field(default="", repr=False)
    client_id: str = field(default="", repr=False)  # of a login, which brings its own app
    client_secret: str = field(default="", repr=False)


class TokenStore(Protocol):
    """Keeps renewed tokens between runs."""

    def load(self, name: str) -> Tokens | None:
        """Give what is stored under a name."""
        ...

    def save(self, name: str, tokens: Tokens) -> None:
        """Store tokens, durably."""
        ...


class FileStore:
    """Tokens in one private file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, name: str) -> Tokens | None:
        """Give what is stored under a name."""
        entry = self._all().get(name)
        return None if entry is None else Tokens(**entry)

    def save(self, name: str, tokens: Tokens) -> None:
        """Store tokens, durably: written beside and renamed."""
        self._write(self._all() | {name: asdict(tokens)})

    def delete(self, name: str) -> None:
        """Forget what is stored under a name, if anything."""
        entries = self._all()
        if entries.pop(name, None) is not None:
            self._write(entries)

    def _write(self, entries: dict[str, dict[str, str]]) -> None:
        private_folder(self._path.parent)
        temporary = temporary_of(self._path)
        with new_file(temporary) as file:
            file.write(json.dumps(entries).encode())
            make_durable(file, temporary)
        put_in_place(temporary, self._path)

    def _all(self) -> dict[str, dict[str, str]]:
        try:
            found: dict[str, dict[str, str]] = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise AccountError("token_store_unreadable", path=self._path) from error
        return found


class KeyringStore:
    """Tokens in the system's keyring."""

    SERVICE: Final = "rd-import"

    def __init__(self, keyring: Any) -> None:
        self._keyring = keyring

    def load(self, name: str) -> Tokens | None:
        """Give what is stored under a name."""
        text = self._keyring.get_password(self.SERVICE, name)
        return None if text is None else Tokens(**json.loads(text))

    def save(self, name: str, tokens: Tokens) -> None:
        """Store tokens, durably."""
        self._keyring.set_password(self.SERVICE, name, json.dumps(asdict(tokens)))

    def delete(self, name: str) -> None:
        """Forget what is stored under a name, if anything."""
        if self.load(name) is not None:
            self._keyring.delete_password(self.SERVICE, name)


def token_store(path: Path, *, warn: bool = True) -> FileStore | KeyringStore:
    """Choose the keyring where there is one that works, else the private file."""
    try:
        import keyring
        from keyring.backends.fail import Keyring as NoKeyring

        if not isinstance(keyring.get_keyring(), NoKeyring):
            return KeyringStore(keyring)
    except ImportError:
        pass
    if warn:
        LOG.warning("tokens.in_file path=%s reason='no keyring on this machine'", path)
    return FileStore(path)


class Credentials:
    """An account's access token, renewed at most once at a time, whoever asks.

    Args:
        account: Whose they are.
        store: Makes the store when it is needed; a run that never renews needs none.
        lock: Where processes of one machine wait for each other before they renew.
    """

    def __init__(self, account: Account, *, store: Callable[[], TokenStore], lock: Path) -> None:
        self._account = account
        self._make_store = store
        self._lock_path = lock
        self._renewing = threading.Lock()
        self._tokens = Tokens(account.token, account.refresh_token)
        self.generation = 0
        self.on_renewed: Callable[[str], None] = lambda _: (
            None
        )  # told the refresh token that holds now
        if not account.token and account.refresh_token:
            self._tokens = self._stored() or self._tokens

    @property
    def access(self) -> str:
        """The access token to use now, fetched if there is none yet."""
        if not self._tokens.access:
            self.renew(self.generation)
        return self._tokens.access

    def renew(self, stale: int) -> bool:
        """Get a new access token, unless somebody did since generation `stale`.

        Returns:
            Whether RD Station was asked; if not, another thread or process had renewed it, perhaps long ago.

        Raises:
            AccountError: There is nothing to renew it with, or RD Station refuses: a person must authorise again.
            ServiceError: RD Station gave no usable answer.
        """
        with self._renewing:
            if self.generation != stale:
                return False
            if not (
                self._account.client_id and self._account.client_secret and self._tokens.refresh
            ):
                raise AccountError("token_ended")
            private_folder(self._lock_path.parent)
            with filelock.FileLock(self._lock_path, mode=0o600):
                stored = self._stored()
                asked = stored is None or stored.access in {"", self._tokens.access}
                if asked:
                    self._tokens = self._ask((stored or self._tokens).refresh)
                    self._make_store().save(self._name, self._tokens)
                elif stored is not None:
                    self._tokens = stored
            self.generation += 1
            self.on_renewed(self._tokens.refresh)
            return asked

    @property
    def _name(self) -> str:
        return f"{self._account.base_url} {self._account.label} {self._account.client_id}"

    def _stored(self) -> Tokens | None:
        return self._make_store().load(self._name)

    def _ask(self, refresh: str) -> Tokens:
        return _ask_for_tokens(self._account, {"refresh_token": refresh})


def _ask_for_tokens(account: Account, what: dict[str, str]) -> Tokens:
    """Ask RD Station for tokens, with a refresh token or with the code of a login."""
    body = {"client_id": account.client_id, "client_secret": account.client_secret, **what}
    try:
        with requests.Session() as session:
            session.trust_env = not is_loopback(account.base_url)
            answer = session.post(
                account.base_url + TOKEN_PATH,
                json=body,
                timeout=TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            )
            given = read_json(answer.raw.read(LARGEST_ANSWER, decode_content=True))
    except (requests.RequestException, HTTPError, ValueError) as error:
        raise ServiceError("no_new_token", reason=type(error).__name__) from error
    if answer.status_code != 200 or not isinstance(given, dict) or not given.get("access_token"):
        if answer.status_code in {400, 401, 403}:
            key = "login_refused" if "code" in what else "authorise_again"
            raise AccountError(key, status=answer.status_code)
        raise ServiceError("no_new_token", reason=f"HTTP {answer.status_code}")
    refresh = given.get("refresh_token") or what.get("refresh_token", "")
    return Tokens(str(given["access_token"]), str(refresh))


def keep_login(store: TokenStore, account: Account, code: str) -> None:
    """Turn the code of a login into tokens, and keep them with the app that they belong to.

    Raises:
        AccountError: RD Station does not take the code.
        ServiceError: It gave no usable answer.
    """
    tokens = _ask_for_tokens(account, {"code": code})
    store.save(f"{_login_name(account)} {account.client_id}", tokens)
    app = replace(tokens, client_id=account.client_id, client_secret=account.client_secret)
    store.save(_login_name(account), app)


def login_of(store: TokenStore, account: Account) -> Account | None:
    """Give an account with what its login left, or None where nobody logged in."""
    kept = store.load(_login_name(account))
    if kept is None:
        return None
    return replace(
        account,
        token=kept.access,
        refresh_token=kept.refresh,
        client_id=kept.client_id,
        client_secret=kept.client_secret,
    )


def forget_login(store: FileStore | KeyringStore, account: Account) -> bool:
    """Forget a login; tell whether there was one."""
    kept = store.load(_login_name(account))
    if kept is None:
        return False
    store.delete(f"{_login_name(account)} {kept.client_id}")
    store.delete(_login_name(account))
    return True


def _login_name(account: Account) -> str:
    return f"{account.base_url} {account.label}"


def identity_of(account: Account) -> tuple[str, str] | None:
    """Give what ties an account's label to its credentials: its kind and text, or None of an opaque token alone."""
    claims = _claims(account.token)
    if claims:
        return "claims", claims
    if account.client_id and account.refresh_token:
        return "refresh", f"{account.client_id} {account.refresh_token}"
    return None


def _claims(token: str) -> str:
    """Read the claims of a JWT that do not change with each token; its signature is RD Station's to check."""
    parts = token.split(".")
    if len(parts) != 3:
        return ""
    try:
        claims = read_json(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return ""
    if not isinstance(claims, dict):
        return ""
    stable = {name: claims[name] for name in STABLE_CLAIMS if name in claims}
    return json.dumps(stable, sort_keys=True) if set(stable) - {"iss"} else ""
