"""Verify a ledger: by itself, and against audits."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rd_import.audit_file import keys_of_audit
from rd_import.key_line import KeyLine
from rd_import.ledger import Ledger
from rd_import.messages import say


def differences(ledger: Ledger, audits: Sequence[Path]) -> list[str]:
    """Name what contradicts itself in a ledger, and what audits hold that it does not.

    The ledger must know every event that an audit calls accepted, with the same uuid, and must not take for free an
    event that an audit left in doubt.
    """
    found = list(ledger.faults())
    for path in audits:
        facts, known = keys_of_audit(path)
        account = ledger.known_account(facts["rd_import.scope"])
        if account is None:
            found.append(say("check.no_account", audit=path.name, scope=facts["rd_import.scope"]))
            continue
        part: list[tuple[bytes, KeyLine]] = []
        for pair in known:
            part.append(pair)
            if len(part) == 500:
                found += _missing(ledger, account, part, path)
                part = []
        found += _missing(ledger, account, part, path)
    return found


def _missing(
    ledger: Ledger, account: int, part: list[tuple[bytes, KeyLine]], path: Path
) -> Iterator[str]:
    lines = ledger.lines(account, [key for key, _ in part])
    for key, audited in part:
        line = lines.get(key, KeyLine())
        for fact in audited.accepted:
            if line.uuid_of(fact.sha) is None:
                yield say("check.not_known", audit=path.name, key=key.hex()[:16], uuid=fact.of)
            elif line.uuid_of(fact.sha) != fact.of:
                yield say("check.other_uuid", audit=path.name, key=key.hex()[:16])
        for fact in audited.doubt:
            in_doubt = any(one.sha == fact.sha for one in line.doubt) or line.request is not None
            if not in_doubt and line.uuid_of(fact.sha) is None and line.why in {"new", "released"}:
                yield say("check.no_doubt", audit=path.name, key=key.hex()[:16])
