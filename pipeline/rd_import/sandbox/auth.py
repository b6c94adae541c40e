"""`POST /auth/token`: a refresh token, or the code of a person who allowed the app, for a new access token."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NoReturn

from rd_import.sandbox.behaviour import (
    RefusedError,
    Request,
    State,
    Verdict,
    check_content_type,
    json_response,
    parse,
)
from rd_import.sandbox.tokens import same

TOKEN_PATH: Final = "/auth/token"  # noqa: S105 -- a path

_LARGEST_BODY: Final = 10_000
"""Far more than three credentials need."""


def judge_token_request(request: Request, state: State) -> Verdict:
    """Answer a request for a token. No secret of it is remembered."""
    try:
        check_content_type(request)
        given = _read_credentials(request)
        tokens = state.tokens
        is_client = same(given["client_id"], tokens.client_id)
        if not (is_client and same(given["client_secret"], tokens.client_secret)):
            _refuse("ACCESS_DENIED", "Wrong credentials provided.")
        if given["code"]:
            renewed = tokens.redeem(given["code"], state.behaviour)
            if renewed is None:
                _refuse("EXPIRED_CODE_GRANT", "The authorization code grant has expired.")
        else:
            renewed = tokens.renew(given["refresh_token"], state.behaviour)
        if renewed is None:
            _refuse(
                "INVALID_REFRESH_TOKEN", "The provided refresh token is invalid or was revoked."
            )
    except RefusedError as refusal:
        return refusal.verdict()
    return Verdict(json_response(HTTPStatus.OK, renewed, {"Cache-Control": "no-store"}))


def _read_credentials(request: Request) -> Mapping[str, str]:
    """Read the four names that a body may have; one that is missing is empty, and so is no good."""
    value: object = None
    if request.length_error is None and request.body_bytes <= _LARGEST_BODY:
        try:
            value = parse(request.body)
        except ValueError:
            value = None
    if not isinstance(value, dict):
        _refuse("BAD_REQUEST", "The body must be a JSON object.", HTTPStatus.BAD_REQUEST)
    names = ("client_id", "client_secret", "refresh_token", "code")
    return {name: text if isinstance(text := value.get(name), str) else "" for name in names}


def _refuse(
    error_type: str, message: str, status: HTTPStatus = HTTPStatus.UNAUTHORIZED
) -> NoReturn:
    raise RefusedError(status, {"error_type": error_type, "error_message": message})
