"""What of a run folder is to be sent, as the ledger stands: looked up before a request is planned."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from rd_import.key_line import KeyLine, Lost, Policy, key_of
from rd_import.run_folder import NO_BODY, RunFolder
from rd_import.values import EVENT, PlannedEvent

if TYPE_CHECKING:
    from rd_import.ledger import Ledger

CONTACT_CONFLICT: Final = "CONTACT_CONFLICT"
PAST: Final = "PAST"
FORGOTTEN: Final = "forgotten"
LOWEST_CONTACT_LIMIT: Final = (
    24  # events a day and contact: the smallest figure that any source gives
)


@dataclass(frozen=True, slots=True)
class Decisions:
    """What was decided about a run before it is sent; kept in `run.json`.

    Args:
        past_before: Events whose own date is older are left out; None sends them.
        repeats: `skip` leaves events alone whose weak identity is known from another file; `send` sends them as new.
    """

    past_before: datetime | None = None
    repeats: str | None = None

    def to_facts(self) -> dict[str, Any]:
        """Give plain values for `run.json`."""
        return {
            "past_before": self.past_before and self.past_before.isoformat(),
            "repeats": self.repeats,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Decisions:
        """Read what `to_facts` wrote."""
        past = facts.get("past_before")
        return cls(datetime.fromisoformat(past) if past else None, facts.get("repeats"))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run's events stand before it is sent: counts of events.

    `reasons` counts why events will not go; `past` those older than the age limit, and `past_free` how many of them
    nothing else holds back; `repeats` those of a weak identity
    that another file brought before; `same_content` those that RD Station has, or may have, under another key; `twins`
    those whose content stands more than once in this input, the first of each not counted; `accepted` has a bit per
    event, in the batches of `planned`: its content was accepted.
    """

    reasons: Mapping[str, int]
    past: int
    repeats: int
    past_free: int = 0
    same_content: int = 0
    twins: int = 0
    accepted: tuple[np.ndarray, ...] = field(default=(), repr=False, compare=False)

    def to_send(self, events: int, *, past: bool = True) -> int:
        """Give how many of so many events nothing holds back; what another run is sending may yet be this run's."""
        held = sum(count for why, count in self.reasons.items() if why != Lost.SENT)
        return events - held - (0 if past else self.past_free)


def hinders(
    line: KeyLine | None,
    sha: bytes,
    contact: bytes | None,
    timestamp: datetime | None,
    *,
    now: datetime,
    policy: Policy,
    decisions: Decisions,
) -> str | None:
    """Tell why an event would not be sent now, or None if it would."""
    if (
        decisions.past_before is not None
        and timestamp is not None
        and timestamp < decisions.past_before
    ):
        return PAST
    if line is None:
        return None
    if line.is_of_another(contact):
        return CONTACT_CONFLICT
    return line.may_claim(sha, now, policy)


def unsent(
    folder: RunFolder,
    ledger: Ledger,
    account: int,
    *,
    now: datetime,
    policy: Policy,
    accepted: Sequence[np.ndarray] = (),
) -> Iterator[PlannedEvent]:
    """Give the events that may go, in order; those that another process is sending right now among them.

    With `accepted`, as a `Standing` has it, events that were accepted then are not looked up again: they stay so.
    """
    decisions = Decisions.from_facts(folder.facts["decisions"])
    forgotten = ledger.forgotten()
    for at, contacts in enumerate(folder.planned_with_contacts()):
        still_open = pl.Series(
            ~np.unpackbits(accepted[at], count=contacts.height).astype(bool)
            if accepted
            else np.ones(contacts.height, dtype=bool)
        )
        if not still_open.any():
            continue
        [bodies] = folder.bodies([at])
        both = bodies.hstack(contacts.select("contact")).filter(still_open)
        uuids = ledger.settled(account, both["event_key"].to_list(), both["payload_sha256"])
        both = both.filter(uuids.is_null())
        lines = ledger.lines(account, both["event_key"].to_list())
        for ordinal, key, sha, timestamp, body, contact in zip(
            both[EVENT],
            both["event_key"],
            both["payload_sha256"],
            both["source_timestamp"],
            both["body"],
            both["contact"],
            strict=True,
        ):
            if contact in forgotten or body == NO_BODY:
                continue
            line = lines.get(key)
            reason = hinders(
                line, sha, contact, timestamp, now=now, policy=policy, decisions=decisions
            )
            if reason in {None, Lost.SENT}:
                before = line is not None and line.why == "refused" and line.refused == sha
                yield PlannedEvent(ordinal, key, sha, contact, body, refused_before=before)


def standing(
    folder: RunFolder,
    ledger: Ledger | None,
    account: int | None,
    *,
    now: datetime,
    policy: Policy,
    max_age: timedelta,
) -> Standing:
    """Look at every event of a folder as the ledger stands; contacts are not compared before they are hashed."""
    reasons: Counter[str] = Counter()
    past = past_free = repeats = 0
    oldest = now - max_age
    mine = input_of(folder)
    contents: list[np.ndarray] = []
    accepted: list[np.ndarray] = []
    forgotten = ledger.forgotten() if ledger is not None and account is not None else frozenset()
    addressed = folder.addressed()
    for events in folder.planned():
        old = (events["source_timestamp"] < oldest).fill_null(value=False).to_numpy()
        past += int(old.sum())
        shas = events["payload_sha256"]
        if ledger is None or account is None:
            past_free += int(old.sum())
            contents.append(_prefixes(shas))
            continue
        wanted = events["event_key"].to_list()
        has = ledger.settled(account, wanted, shas).is_not_null()
        others = (~has).arg_true().to_list()
        lines = ledger.lines(account, [wanted[at] for at in others])
        accepted_here = has.to_numpy().copy()
        held = accepted_here.copy()
        unseen = ~accepted_here
        reasons[Lost.ACCEPTED] += int(accepted_here.sum())
        for at in others if lines else ():
            line, sha = lines.get(wanted[at]), shas[at]
            if line is None:
                continue
            unseen[at] = not line.knows(sha)
            if (reason := line.may_claim(sha, now, policy)) is not None:
                reasons[reason] += 1
                held[at] = True
                accepted_here[at] = reason is Lost.ACCEPTED
        if forgotten:
            gone = [ledger.contact_of(one) in forgotten for one in next(addressed)["email"]]
            reasons[FORGOTTEN] += int((np.array(gone, dtype=bool) & ~held).sum())
            held |= np.array(gone, dtype=bool)
        past_free += int((old & ~held).sum())
        accepted.append(np.packbits(accepted_here))
        contents.append(_prefixes(shas)[unseen])
        if folder.facts["weak_identity"] and (lines or has.any()):
            inputs = ledger.inputs_of(account, wanted)
            repeats += sum(digest != mine for digest in inputs.values())
    every = _joined(contents)
    every.sort()
    found = np.zeros(len(every), dtype=bool)
    if ledger is not None and account is not None and len(every):
        for sent in ledger.contents(account):
            theirs = np.frombuffer(sent, dtype="<u8")
            first = np.searchsorted(every, theirs)
            last = np.searchsorted(every, theirs, side="right")
            for one, after in zip(first[last > first], last[last > first], strict=True):
                found[one:after] = True
    return Standing(
        dict(+reasons),
        past,
        repeats,
        past_free,
        same_content=int(found.sum()),
        twins=int((every[1:] == every[:-1]).sum()),
        accepted=tuple(accepted),
    )


def _prefixes(shas: pl.Series) -> np.ndarray:
    """Give the first 8 bytes of each checksum as a number: (n,) uint64."""
    return np.frombuffer(b"".join(shas.bin.slice(0, 8).to_list()), dtype="<u8")


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    joined = np.concatenate(parts) if parts else np.empty(0, dtype="<u8")
    parts.clear()
    return joined


def number_on(folder: RunFolder, ledger: Ledger, account: int) -> None:
    """Give events that repeat a weak identity of other files the occurrence numbers after those known.

    Keys that this same input brought before stay what they are, so that a run that is done again sends nothing twice.
    """
    mine = input_of(folder)
    rekeyed = []
    for events, identity in zip(folder.planned(), folder.identities(), strict=True):
        keys = events["event_key"].to_list()
        foreign = {key for key, digest in ledger.inputs_of(account, keys).items() if digest != mine}
        shift: dict[tuple[str, str], int] = {}
        for key, named in zip(keys, zip(events["event_type"], identity, strict=True), strict=True):
            if key in foreign and named not in shift:
                shift[named] = _known_elsewhere(folder, ledger, account, named, mine)
        rekeyed.append(
            [
                key
                if not shift.get((event_type, text))
                else key_of(
                    event_type, folder.facts["namespace"], text, number + shift[event_type, text]
                )
                for key, event_type, text, number in zip(
                    keys, events["event_type"], identity, events["occurrence"], strict=True
                )
            ]
        )
    folder.replace_keys(rekeyed)


def _known_elsewhere(
    folder: RunFolder, ledger: Ledger, account: int, named: tuple[str, str], mine: str
) -> int:
    """Count the occurrences of a type and identity, from 1 on, that other files brought."""
    event_type, identity = named
    namespace = folder.facts["namespace"]
    known = 0
    while True:
        step = [key_of(event_type, namespace, identity, known + n) for n in range(1, 17)]
        inputs = ledger.inputs_of(account, step)
        here = 0
        for key in step:
            if inputs.get(key, mine) == mine:
                return known + here
            here += 1
        known += here


def heavy_contacts(folder: RunFolder, limit: int) -> frozenset[bytes]:
    """Name the contacts that have more events in this folder than a contact may have in a day."""
    parts = [
        np.frombuffer(b"".join(contact[:8] for contact in events["contact"]), dtype="<u8")
        for events in folder.planned_with_contacts()
    ]
    if not parts:
        return frozenset()
    prefixes, counts = np.unique(np.concatenate(parts), return_counts=True)
    heavy = set(prefixes[counts > limit].tolist())
    if not heavy:
        return frozenset()
    return frozenset(
        contact
        for events in folder.planned_with_contacts()
        for contact in events["contact"].unique()
        if int.from_bytes(contact[:8], "little") in heavy
    )


def input_of(folder: RunFolder) -> str:
    """Name a run's input: one checksum over those of its files."""
    return hashlib.sha256(
        " ".join(export["sha256"] for export in folder.facts["exports"]).encode()
    ).hexdigest()
