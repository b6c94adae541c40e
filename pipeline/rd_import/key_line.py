"""What is known of one event key, and what may happen to it. Pure.

Two facts about the server are kept per content and never overwritten by a later attempt: *accepted* and *in doubt*.
Beside them at most one live request holds the key. Each method is one cell group of the state table; a method gives
the line as it is afterwards. The table, the counterexample behind each rule and a model checker came with the design.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Self


@dataclass(frozen=True, slots=True)
class Policy:
    """What a run may send beyond what is free.

    Args:
        resend_unknown: Contents in doubt too (at least once instead of at most once).
        send_changed: A new content of a key that was accepted with another one.
    """

    resend_unknown: bool = False
    send_changed: bool = False


class Unresolvable(StrEnum):
    """Why a person's decision does not apply to a key as it stands."""

    NOT_UNKNOWN = "not unknown"
    IN_FLIGHT = "in flight"
    ALREADY_ORDERED = "already ordered"
    CLOSED = "closed by an earlier decision"
    ACCEPTED = "accepted meanwhile"


def key_of(event_type: str, namespace: str, identity: str, occurrence: int) -> bytes:
    """Give an event's key: the same on every machine, whatever the file's columns, order and number formats.

    Args:
        event_type: Name of the type.
        namespace: Keeps apart the keys of two shops whose ids could meet.
        identity: The identity columns in canonical form, as `encode` writes them.
        occurrence: Which one of equal identities it is, from 1.
    """
    text = f'["{event_type}",{json.dumps(namespace, ensure_ascii=False)},{identity},{occurrence}]'
    return hashlib.sha256(text.encode()).digest()


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
        contact: Keyed hash of the contact that the key was first sent for, where that is known.
        refused: Content that RD Station refused last.
    """

    request: str | None = None
    sent_sha: bytes | None = None
    accepted: tuple[Fact, ...] = ()
    doubt: tuple[Fact, ...] = ()
    resend: bytes | None = None
    held: str | None = None
    why: str = "new"
    not_before: datetime | None = None
    contact: bytes | None = None
    refused: bytes | None = None

    def uuid_of(self, sha: bytes) -> str | None:
        """Give the uuid with which this content was accepted."""
        return next((fact.of for fact in self.accepted if fact.sha == sha), None)

    def knows(self, sha: bytes) -> bool:
        """Tell whether this content was accepted, is in doubt, or is on its way under this key."""
        return sha in {self.sent_sha, *(fact.sha for fact in (*self.accepted, *self.doubt))}

    def may_claim(self, sha: bytes, now: datetime, policy: Policy) -> Lost | None:
        """Tell why content `sha` may not be sent now, or None if it may."""
        if self.uuid_of(sha) is not None:
            return Lost.ACCEPTED
        if self.request is not None:
            return Lost.SENT
        if self.held is not None:
            return Lost.HELD
        if (
            self.doubt
            and self.resend != sha
            and not (policy.resend_unknown and self.resend is None)
        ):
            return Lost.DOUBT
        if self.accepted and not self.doubt and not policy.send_changed:
            return Lost.CHANGED
        if self.not_before is not None and self.not_before > now:
            return Lost.DEFERRED
        return None

    @property
    def is_bound(self) -> bool:
        """Tell whether something of this key is, or may be, registered: then its contact is settled."""
        return bool(self.accepted or self.doubt or self.request is not None)

    def is_of_another(self, contact: bytes | None) -> bool:
        """Tell whether something of this key is, or may be, registered for a contact other than this one."""
        return self.is_bound and None not in {self.contact, contact} and self.contact != contact

    def claimed(self, request: str, sha: bytes, contact: bytes | None = None) -> Self:
        """A request is about to carry content `sha`; older facts stay, and with them the contact that they are of."""
        bound = self.contact if self.is_bound or contact is None else contact
        return replace(self, request=request, sent_sha=sha, contact=bound)

    def was_accepted(self, request: str, sha: bytes, uuid: str) -> Self:
        """A 200 of `request` named a uuid for content `sha`, however late it came."""
        line = self._closed(request)
        known = (
            line.accepted if line.uuid_of(sha) is not None else (*line.accepted, Fact(sha, uuid))
        )
        doubt = tuple(fact for fact in line.doubt if fact.sha != sha)
        settled = (
            line.request is None and not doubt
        )  # a decision about another content still in doubt holds on
        return replace(
            line,
            accepted=known,
            doubt=doubt,
            resend=None if settled or line.resend == sha else line.resend,
            held=None if settled else line.held,
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
        return replace(self._closed(request), why="refused", resend=None, refused=self.sent_sha)

    def was_deferred(self, request: str, not_before: datetime) -> Self:
        """The contact's limit is reached: not before then."""
        if self.request != request:
            return self
        return replace(self._closed(request), why="deferred", not_before=not_before)

    def was_held_back(self, request: str, not_before: datetime) -> Self:
        """The contact has had its share and nothing was sent; a key that is not free stays as it is."""
        if self.request not in {None, request} or self.doubt or self.accepted:
            return self
        return replace(self._closed(request), why="deferred", not_before=not_before)

    def was_lost(self, request: str) -> Self:
        """`request` got no usable answer, or its process died: its content is in doubt."""
        if self.request != request or self.sent_sha is None:
            return self
        doubt = (
            *(fact for fact in self.doubt if fact.sha != self.sent_sha),
            Fact(self.sent_sha, request),
        )
        return replace(self._closed(request), doubt=doubt, resend=None)

    def unresolvable(self, sha: bytes) -> Unresolvable | None:
        """Tell why a person cannot decide on content `sha` of this key now, or None if they can."""
        if self.uuid_of(sha) is not None:
            return Unresolvable.ACCEPTED
        if self.request is not None:
            return Unresolvable.IN_FLIGHT
        if not self.doubt:
            return Unresolvable.NOT_UNKNOWN
        if self.resend is not None:
            return Unresolvable.ALREADY_ORDERED
        return Unresolvable.CLOSED if self.held is not None else None

    def unwithdrawable(self) -> Unresolvable | None:
        """Tell why there is no decision to take back, or None if there is one."""
        if self.request is not None:
            return Unresolvable.IN_FLIGHT
        return (
            None if self.resend is not None or self.held is not None else Unresolvable.NOT_UNKNOWN
        )

    def was_ordered(self, sha: bytes) -> Self:
        """A person ordered one send of content `sha`; the doubt stays."""
        return replace(self, resend=sha)

    def was_held(self, held: str) -> Self:
        """A person closed the key: `left` as it is, or `confirmed` as registered."""
        return replace(self, held=held)

    def was_withdrawn(self) -> Self:
        """A decision not yet used is taken back: in doubt again."""
        return replace(self, resend=None, held=None)

    def joined(self, other: Self) -> Self:
        """Join with what an audit knew of the key: per content, free < in doubt < accepted; attempts stay."""
        accepted = self.accepted + tuple(
            fact for fact in other.accepted if self.uuid_of(fact.sha) is None
        )
        known = {fact.sha for fact in accepted}
        doubt = {fact.sha: fact for fact in (*other.doubt, *self.doubt) if fact.sha not in known}
        return replace(self, accepted=accepted, doubt=tuple(doubt.values()))

    def _closed(self, request: str) -> Self:
        return replace(self, request=None, sent_sha=None) if self.request == request else self
