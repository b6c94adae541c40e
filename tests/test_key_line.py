"""The state table of a key, row by row: what a claim, an answer or its absence makes of a line."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rd_import.key_line import Fact, KeyLine, Lost, Policy, Unresolvable

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
C, D = b"c" * 32, b"d" * 32  # two contents of one key
STRICT = Policy()

FREE = KeyLine()
RELEASED = KeyLine(why="released")
REFUSED = KeyLine(why="refused")
DEFERRED = KeyLine(why="deferred", not_before=LATER)
DUE = KeyLine(why="deferred", not_before=NOW)
DOUBT = KeyLine(doubt=(Fact(C, "r"),))
ORDERED = replace(DOUBT, resend=C)
HELD = replace(DOUBT, held="left")
ACCEPTED = KeyLine(accepted=(Fact(C, "uuid"),))
BOTH = KeyLine(accepted=(Fact(C, "uuid"),), doubt=(Fact(D, "r"),))  # C accepted, D in doubt


def sent(line: KeyLine = FREE, request: str = "r", content: bytes = C) -> KeyLine:
    return line.claimed(request, content)


# --- claim ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [FREE, RELEASED, REFUSED, DUE])
def test_a_free_key_may_be_claimed(line: KeyLine) -> None:
    """Refused too: it is proven absent, and the mended file must be able to go."""
    assert line.may_claim(C, NOW, STRICT) is None


@pytest.mark.parametrize(
    ("line", "content", "why"),
    [
        (DEFERRED, C, Lost.DEFERRED),
        (sent(), C, Lost.SENT),
        (sent(), D, Lost.SENT),
        (sent(ORDERED), C, Lost.SENT),
        (DOUBT, C, Lost.DOUBT),
        (DOUBT, D, Lost.DOUBT),
        (ORDERED, D, Lost.DOUBT),
        (HELD, C, Lost.HELD),
        (HELD, D, Lost.HELD),
        (replace(DOUBT, held="confirmed"), C, Lost.HELD),
        (ACCEPTED, C, Lost.ACCEPTED),
        (ACCEPTED, D, Lost.CHANGED),
        (BOTH, C, Lost.ACCEPTED),
        (BOTH, D, Lost.DOUBT),
        (BOTH, b"e" * 32, Lost.DOUBT),
        (replace(ORDERED, not_before=LATER), C, Lost.DEFERRED),
    ],
)
def test_a_claim_loses(line: KeyLine, content: bytes, why: Lost) -> None:
    assert line.may_claim(content, NOW, STRICT) is why


def test_an_order_lets_the_named_content_go_once() -> None:
    assert ORDERED.may_claim(C, NOW, STRICT) is None
    assert sent(ORDERED).was_lost("r").may_claim(C, NOW, STRICT) is Lost.DOUBT


def test_an_order_may_name_a_mended_content() -> None:
    """Else what was refused on its resend could never go (C7)."""
    assert DOUBT.was_ordered(D).may_claim(D, NOW, STRICT) is None
    assert DOUBT.was_ordered(D).may_claim(C, NOW, STRICT) is Lost.DOUBT


@pytest.mark.parametrize(
    ("line", "content", "why"),
    [
        (DOUBT, C, None),
        (DOUBT, D, None),
        (HELD, C, Lost.HELD),
        (ORDERED, D, Lost.DOUBT),
        (sent(DOUBT), C, Lost.SENT),
        (ACCEPTED, D, Lost.CHANGED),
    ],
)
def test_a_run_that_resends_unknowns_still_respects_persons_and_requests(
    line: KeyLine, content: bytes, why: Lost | None
) -> None:
    assert line.may_claim(content, NOW, Policy(resend_unknown=True)) is why


@pytest.mark.parametrize(
    ("line", "content", "why"),
    [(ACCEPTED, D, None), (ACCEPTED, C, Lost.ACCEPTED), (BOTH, b"e" * 32, Lost.DOUBT)],
)
def test_a_run_that_sends_changes_sends_only_what_is_new(
    line: KeyLine, content: bytes, why: Lost | None
) -> None:
    assert line.may_claim(content, NOW, Policy(send_changed=True)) is why


@pytest.mark.parametrize("line", [FREE, DOUBT, ORDERED, ACCEPTED, BOTH])
def test_a_claim_forgets_no_fact(line: KeyLine) -> None:
    """No later attempt clears a doubt, and what was accepted stays known (C8, C14)."""
    after = sent(line, "r2", D)
    assert (after.request, after.sent_sha) == ("r2", D)
    assert (after.accepted, after.doubt, after.resend) == (line.accepted, line.doubt, line.resend)


# --- 200 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [FREE, REFUSED, DOUBT, ORDERED])
def test_a_200_makes_the_content_accepted_and_clears_its_doubt_and_order(before: KeyLine) -> None:
    after = sent(before).was_accepted("r", C, "uuid")
    assert after.uuid_of(C) == "uuid"
    assert (after.request, after.sent_sha, after.doubt, after.resend) == (None, None, (), None)


def test_a_200_clears_no_doubt_of_another_content() -> None:
    after = sent(DOUBT.was_ordered(D), "r2", D).was_accepted("r2", D, "uuid")
    assert after.accepted == (Fact(D, "uuid"),)
    assert after.doubt == (Fact(C, "r"),)


@pytest.mark.parametrize("reaped", [DOUBT, ORDERED, HELD, replace(DOUBT, held="confirmed")])
def test_a_late_200_of_a_reaped_request_makes_its_content_accepted(reaped: KeyLine) -> None:
    """Proof beats a person, and the resend that they ordered loses its claim."""
    after = reaped.was_accepted("r", C, "uuid")
    assert after == ACCEPTED
    assert after.may_claim(C, NOW, Policy(resend_unknown=True)) is Lost.ACCEPTED


def test_a_second_200_of_an_accepted_content_changes_nothing() -> None:
    assert ACCEPTED.was_accepted("r2", C, "another uuid") == ACCEPTED


def test_a_late_200_leaves_the_key_to_the_request_that_holds_it() -> None:
    """r was reaped, r2 carries the ordered resend: both answers count."""
    between = sent(ORDERED, "r2").was_accepted("r", C, "uuid")
    assert (between.request, between.sent_sha) == ("r2", C)
    assert between.uuid_of(C) == "uuid"
    assert between.doubt == ()
    after = between.was_accepted("r2", C, "another uuid")
    assert after.request is None
    assert after.uuid_of(C) == "uuid"


def test_a_late_200_of_one_content_opens_no_key_that_a_person_closed_for_another() -> None:
    """Two contents are in doubt and held; that one is accepted says nothing of the other."""
    held = KeyLine(doubt=(Fact(C, "r"), Fact(D, "r2")), held="left")
    after = held.was_accepted("r", C, "uuid")
    assert after.doubt == (Fact(D, "r2"),)
    assert after.may_claim(D, NOW, Policy(resend_unknown=True)) is Lost.HELD


# --- proof of non-acceptance ----------------------------------------------------------------------


@pytest.mark.parametrize("before", [FREE, REFUSED, DUE, DOUBT, ORDERED, ACCEPTED, BOTH])
def test_what_was_not_accepted_is_what_it_was_before(before: KeyLine) -> None:
    after = sent(before, "r2", D).was_released("r2")
    assert after == replace(before, why="released")


@pytest.mark.parametrize("line", [DOUBT, ORDERED, HELD, ACCEPTED, sent(DOUBT, "r2")])
def test_proof_about_a_reaped_request_is_ignored(line: KeyLine) -> None:
    """The key may have gone on meanwhile; only a 200 clears a doubt (C8, C9)."""
    assert line.was_released("r") == line
    assert line.was_refused("r") == line
    assert line.was_deferred("r", LATER) == line
    assert line.was_lost("r") == line


# --- refused --------------------------------------------------------------------------------------


def test_a_refused_key_is_free() -> None:
    after = sent(FREE).was_refused("r")
    assert (after.request, after.doubt, after.why) == (None, (), "refused")
    assert after.may_claim(C, NOW, STRICT) is None


def test_a_refused_resend_stays_in_doubt_and_uses_its_order_up() -> None:
    """The first send may stand at RD Station all the same."""
    after = sent(ORDERED, "r2").was_refused("r2")
    assert (after.doubt, after.resend, after.request) == (DOUBT.doubt, None, None)
    assert after.may_claim(C, NOW, STRICT) is Lost.DOUBT


def test_a_refused_change_leaves_the_old_content_accepted() -> None:
    after = sent(ACCEPTED, "r2", D).was_refused("r2")
    assert after.accepted == ACCEPTED.accepted
    assert after.why == "refused"
    assert after.may_claim(D, NOW, Policy(send_changed=True)) is None


# --- lead_limiter ---------------------------------------------------------------------------------


def test_a_limited_key_is_free_later() -> None:
    after = sent(FREE).was_deferred("r", LATER)
    assert after == DEFERRED
    assert after.may_claim(C, LATER, STRICT) is None


@pytest.mark.parametrize("before", [DOUBT, ORDERED])
def test_a_limited_resend_keeps_its_doubt_and_its_order(before: KeyLine) -> None:
    """It was not used up: RD Station took nothing."""
    after = sent(before, "r2").was_deferred("r2", LATER)
    assert (after.doubt, after.resend) == (before.doubt, before.resend)
    assert (after.request, after.not_before) == (None, LATER)


# --- no usable answer, and reaping ----------------------------------------------------------------


def test_without_a_usable_answer_the_content_is_in_doubt() -> None:
    assert sent(FREE).was_lost("r") == DOUBT


def test_a_doubt_of_another_content_is_added() -> None:
    after = sent(DOUBT.was_ordered(D), "r2", D).was_lost("r2")
    assert set(after.doubt) == {Fact(C, "r"), Fact(D, "r2")}
    assert after.resend is None


def test_a_lost_resend_uses_its_order_up() -> None:
    after = sent(ORDERED, "r2").was_lost("r2")
    assert after.resend is None
    assert [fact.sha for fact in after.doubt] == [C]


def test_a_lost_change_leaves_the_old_content_accepted() -> None:
    after = sent(ACCEPTED, "r", D).was_lost("r")
    assert after == BOTH


@pytest.mark.parametrize("before", [FREE, DOUBT, ORDERED, ACCEPTED])
def test_what_was_sent_never_becomes_free_by_reaping(before: KeyLine) -> None:
    """The dead process's body may still be on the wire (C3, C4)."""
    after = sent(before, "r2", D).was_lost("r2")
    assert D in {fact.sha for fact in after.doubt}
    assert after.may_claim(D, LATER, Policy(send_changed=True)) is Lost.DOUBT


# --- resolve --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (FREE, Unresolvable.NOT_UNKNOWN),
        (REFUSED, Unresolvable.NOT_UNKNOWN),
        (sent(), Unresolvable.IN_FLIGHT),
        (sent(ORDERED), Unresolvable.IN_FLIGHT),
        (ORDERED, Unresolvable.ALREADY_ORDERED),
        (HELD, Unresolvable.CLOSED),
        (ACCEPTED, Unresolvable.ACCEPTED),
        (BOTH, Unresolvable.ACCEPTED),
        (DOUBT, None),
    ],
)
def test_a_person_decides_only_on_what_is_unknown_now(
    line: KeyLine, why: Unresolvable | None
) -> None:
    """They decide from a screen that may be old (C11)."""
    assert line.unresolvable(C) is why


def test_a_decision_keeps_the_doubt_and_can_be_withdrawn() -> None:
    assert DOUBT.was_ordered(C) == ORDERED
    assert DOUBT.was_held("left") == HELD
    assert ORDERED.was_withdrawn() == HELD.was_withdrawn() == DOUBT


# --- what an audit knew ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "audit", "joined"),
    [
        (FREE, DOUBT, DOUBT),
        (FREE, ACCEPTED, ACCEPTED),
        (DOUBT, ACCEPTED, ACCEPTED),
        (ACCEPTED, DOUBT, ACCEPTED),
        (DOUBT, FREE, DOUBT),
        (ORDERED, DOUBT, ORDERED),
        (ACCEPTED, KeyLine(doubt=(Fact(D, "r"),)), BOTH),
        (sent(FREE), ACCEPTED, replace(sent(FREE), accepted=ACCEPTED.accepted)),
    ],
)
def test_joining_an_audit_raises_facts_and_touches_no_attempt(
    mine: KeyLine, audit: KeyLine, joined: KeyLine
) -> None:
    assert mine.joined(audit) == joined
