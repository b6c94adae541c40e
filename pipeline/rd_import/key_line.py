"""What is known of one event key, and what may happen to it. Pure.

Two facts about the server are kept per content and never overwritten by a later attempt: *accepted* and *in doubt*.
Beside them at most one live request holds the key. Each method is one cell group of the state table; a method gives
the line as it is afterwards. The table, the counterexample behind each rule and a model checker came with the design.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Self


class Lost(StrEnum):
    """Why a claim was not granted."""

    SENT = "sent"  # a live request holds the key
    ACCEPTED = "accepted"  # this content was accepted
    CHANGED = "changed"  # another content was accepted
    DOUBT = "doubt"  # a content of this key may be registered
    HELD = "held"  # a person closed the key
    DEFERRED = "deferred"  # its time has not come


@dataclass(frozen=True, slots=True)
class Fact:
    """A content of a key: its sha256, and the uuid it was accepted with or the request that left it in doubt."""

    sha: bytes
    of: str


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One key's line in the ledger.

    Args:
        request: Live request that holds the key; `sent_sha` is the content it carries.
        accepted: Contents with the uuid that RD Station gave each.
        doubt: Contents that may be registered, with the request that left them so.
        resend: Content that a person ordered to be sent again.
        held: `left` or `confirmed`: a person closed the key.
        why: Why it is free: `new`, `released`, `refused` or `deferred`.
        not_before: When a deferred key may go.
    """

    request: str | None = None
    sent_sha: bytes | None = None
    accepted: tuple[Fact, ...] = ()
    doubt: tuple[Fact, ...] = ()
    resend: bytes | None = None
    held: str | None = None
    why: str = "new"
    not_before: datetime | None = None

    def uuid_of(self, sha: bytes) -> str | None:
        """Give the uuid with which this content was accepted."""
        return next((fact.of for fact in self.accepted if fact.sha == sha), None)

    def may_claim(self, sha: bytes, now: datetime) -> Lost | None:
        """Tell why content `sha` may not be sent now, or None if it may."""
        if self.uuid_of(sha) is not None:
            return Lost.ACCEPTED
        if self.request is not None:
            return Lost.SENT
        if self.held is not None:
            return Lost.HELD
        if self.doubt and self.resend != sha:
            return Lost.DOUBT
        if self.accepted and not self.doubt:
            return Lost.CHANGED
        if self.not_before is not None and self.not_before > now:
            return Lost.DEFERRED
        return None

    def claimed(self, request: str, sha: bytes) -> Self:
        """A request is about to carry content `sha`; older facts stay."""
        return replace(self, request=request, sent_sha=sha)

    def was_accepted(self, request: str, sha: bytes, uuid: str) -> Self:
        """A 200 of `request` named a uuid for content `sha`, however late it came."""
        line = self._closed(request)
        known = line.accepted if line.uuid_of(sha) is not None else (*line.accepted, Fact(sha, uuid))
        return replace(
            line,
            accepted=known,
            doubt=tuple(fact for fact in line.doubt if fact.sha != sha),
            resend=None if line.request is None else line.resend,
            held=None if line.request is None else line.held,
        )

    def was_released(self, request: str) -> Self:
        """`request` is proven not accepted: back to what was before it."""
        if self.request != request:
            return self
        return replace(self._closed(request), why="released")

    def was_refused(self, request: str) -> Self:
        """RD Station refused this event; an older doubt stays, the order to resend is used up."""
        if self.request != request:
            return self
        return replace(self._closed(request), why="refused", resend=None)

    def was_deferred(self, request: str, not_before: datetime) -> Self:
        """The contact's limit is reached: not before then."""
        if self.request != request:
            return self
        return replace(self._closed(request), why="deferred", not_before=not_before)

    def was_lost(self, request: str) -> Self:
        """`request` got no usable answer, or its process died: its content is in doubt."""
        if self.request != request or self.sent_sha is None:
            return self
        doubt = (*(fact for fact in self.doubt if fact.sha != self.sent_sha), Fact(self.sent_sha, request))
        return replace(self._closed(request), doubt=doubt, resend=None)

    def _closed(self, request: str) -> Self:
        return replace(self, request=None, sent_sha=None) if self.request == request else self
