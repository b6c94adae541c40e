"""One account at a time: its tokens, its label, its limits, its refusals and its outages, and two processes at once."""

import base64
import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from command_line import start
from conftest import Command
from rd_import.auth import FileStore, Tokens
from rd_import.errors import JobError
from rd_import.job import Account
from rd_import.sandbox import Behaviour, Fault, Sandbox
from rd_import.session import Session
from rdstation_events import api_facts
from rig import (
    TYPE,
    FakeTime,
    Row,
    broken_promises,
    job,
    orders,
    point_at,
    registered,
    save,
    sized,
    statuses,
    time_passes,
)

__all__ = ["time_passes"]

CONVERSION = ("--type", "CONVERSION")
DAY_S = 86_400
POISON = "poison@example.com"
OPAQUE = "-token-that-names-nobody"


def posts(server: Sandbox) -> list[str]:
    """Give the path of each request that carried events."""
    return [one.path for one in server.requests() if one.path != "/auth/token"]


def largest_body(server: Sandbox) -> int:
    """Give the most events that one request carried."""
    return max(one.events for one in server.requests())


# --- tokens


def tokens_file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "rd-import" / "tokens.json"


def test_a_token_that_ends_is_renewed_once_however_many_requests_find_out(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = Behaviour(token_lives_requests=30, refresh_rotates=True, latency_ms=20)
    with Sandbox(behaviour=behaviour) as server:
        point_at(server, monkeypatch, renews=True)
        seed = server.refresh_token
        done = rd_import(*job(tmp_path / "a.csv", 200, 4), "-v")
        assert (done.code, done.json["states"]) == (0, {"accepted": 200})
        assert server.refreshes == 1
        assert 2 <= statuses(server)[401] <= 16
        assert registered(server) == dict.fromkeys(range(1, 201), 1)
        assert server.refresh_token != seed
        stored = tokens_file(tmp_path)
        assert stat.S_IMODE(stored.stat().st_mode) == 0o600
        assert server.refresh_token in stored.read_text("utf-8")
        shown = done.out + done.err + str(done.audit)
        for secret in (server.token, seed, server.refresh_token, server.client_secret):
            assert secret not in shown


def test_a_new_refresh_token_is_stored_before_the_new_access_token_is_used(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_really, before = FileStore.save, []
    with Sandbox(behaviour=Behaviour(token_lives_requests=3, refresh_rotates=True)) as server:

        def save_it(store: FileStore, name: str, tokens: Tokens) -> None:
            before.append(statuses(server)[200])
            save_really(store, name, tokens)

        monkeypatch.setattr(FileStore, "save", save_it)
        point_at(server, monkeypatch, renews=True)
        done = rd_import(*job(tmp_path / "a.csv", 25, 5))
        assert done.code == 0
        # three answers by the first token, one renewal; then the two that are left
        assert before == [3 + 1]
        assert statuses(server)[200] == 5 + 1


def test_the_next_run_uses_what_was_stored(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's tokens have both ended: the access token by age, the refresh token by rotation."""
    with Sandbox(behaviour=Behaviour(token_lives_requests=3, refresh_rotates=True)) as server:
        point_at(server, monkeypatch, renews=True)
        assert rd_import(*job(tmp_path / "a.csv", 20, 5)).code == 0
        assert server.refreshes == 1
        done = rd_import(*job(tmp_path / "b.csv", 5, 5, first=100))
        assert (done.code, done.json["states"]) == (0, {"accepted": 5})
        assert server.refreshes == 1


def test_what_was_stored_and_has_ended_too_is_renewed_with_the_stored_refresh_token(
    tmp_path: Path, rd_import: Command, time_passes: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on every day of a scheduled import whose environment never changes."""
    behaviour = Behaviour(token_seconds=DAY_S, refresh_rotates=True)
    with Sandbox(behaviour=behaviour, clock=time_passes.now) as server:
        point_at(server, monkeypatch, renews=True)
        for day in range(4):
            done = rd_import(*job(tmp_path / f"{day}.csv", 5, 5, first=1 + 10 * day))
            assert (day, done.code, done.json["states"]) == (day, 0, {"accepted": 5})
            assert server.refreshes == day
            time_passes.advance(DAY_S + 60)


def test_an_account_without_an_access_token_gets_one_first(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(behaviour=Behaviour(refresh_rotates=True)) as server:
        point_at(server, monkeypatch, renews=True)
        monkeypatch.delenv("RD_IMPORT_TOKEN")
        for day in range(3):
            done = rd_import(*job(tmp_path / f"{day}.csv", 5, 5, first=1 + 10 * day))
            assert (done.code, done.json["states"]) == (0, {"accepted": 5})
        assert server.refreshes == 1
        assert statuses(server)[401] == 0


@pytest.mark.parametrize("has_token", [True, False])
def test_a_refusal_to_renew_ends_in_4_and_nothing_is_lost(
    has_token: bool,
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
    time_passes: FakeTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point_at(sandbox, monkeypatch, renews=True)
    monkeypatch.setenv("RD_IMPORT_REFRESH_TOKEN", "not-ours-at-all")
    if has_token:
        monkeypatch.setenv("RD_IMPORT_TOKEN", "ended-long-ago")
    else:
        monkeypatch.delenv("RD_IMPORT_TOKEN")
    words = job(tmp_path / "a.csv", 20, 5)
    done = rd_import(*words, "--audit", tmp_path / "a.parquet")
    assert done.code == 4
    assert time_passes.passed_s == 0
    assert "not-ours-at-all" not in done.out + done.err
    assert registered(sandbox) == {}
    if done.json.get("states"):
        assert done.json["states"] == {"not_sent": 20}
    point_at(sandbox, monkeypatch, renews=True)
    again = rd_import(*words, "--audit", tmp_path / "b.parquet")
    assert (again.code, again.json["states"]) == (0, {"accepted": 20})


def test_a_renewal_that_gets_no_answer_is_an_outage_and_not_a_refusal(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(sandbox, monkeypatch, renews=True)
    monkeypatch.setenv("RD_IMPORT_TOKEN", "ended-long-ago")
    monkeypatch.setattr("rd_import.auth.TOKEN_PATH", "/nowhere")
    done = rd_import(*job(tmp_path / "a.csv", 5))
    assert (done.code, done.json["states"]) == (1, {"not_sent": 5})


# --- the label


def jwt(**claims: Any) -> str:
    parts = ({"alg": "none"}, claims)
    texts = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts
    ]
    return ".".join([*texts, "signature"])


def opened(path: Path, label: str, **credentials: str) -> bool:
    """Open a session to RD Station's own address, which asks nothing of it; tell whether the label is on trust."""
    account = Account(label=label, base_url=api_facts.BASE_URL, **credentials)
    with Session.open(account, path) as session:
        return session.trusted_label


def test_a_label_belongs_to_the_account_that_its_token_names(tmp_path: Path) -> None:
    ledger = tmp_path / "a.db"
    shop = jwt(iss="https://api.rd.services", account_id="1", exp=1)
    assert not opened(ledger, "shop", token=shop)
    assert not opened(
        ledger, "shop", token=jwt(iss="https://api.rd.services", account_id="1", exp=2)
    )
    with pytest.raises(JobError, match="shop") as known_account:
        opened(ledger, "another-label", token=shop)
    with pytest.raises(JobError, match="shop") as known_label:
        opened(ledger, "shop", token=jwt(iss="https://api.rd.services", account_id="2", exp=1))
    assert known_account.value.exit_code == known_label.value.exit_code == 2
    assert not opened(ledger, "other", token=jwt(iss="https://api.rd.services", account_id="2"))


def test_a_label_belongs_to_the_refresh_tokens_that_it_began_with(tmp_path: Path) -> None:
    ledger = tmp_path / "a.db"
    mine = {"client_id": "app", "client_secret": "s", "refresh_token": "first"}
    assert not opened(ledger, "shop", **mine)
    assert not opened(ledger, "shop", **mine)
    with pytest.raises(JobError, match="shop") as error:
        opened(ledger, "another-label", **mine)
    assert error.value.exit_code == 2


def test_a_label_with_a_refresh_token_never_seen_before_is_on_trust(tmp_path: Path) -> None:
    """Somebody authorised anew, or the token is another account's: only the person knows."""
    first = {"client_id": "app", "client_secret": "s", "refresh_token": "first"}
    renewed = first | {"refresh_token": "of a new authorisation"}
    assert not opened(tmp_path / "a.db", "shop", **first)
    assert opened(tmp_path / "a.db", "shop", **renewed)
    assert not opened(tmp_path / "a.db", "shop", **renewed)


@pytest.mark.parametrize("sign", ["CI", "KUBERNETES_SERVICE_HOST", "a container's mark"])
def test_where_the_disk_may_be_gone_after_the_run_the_ledger_must_be_named(
    sign: str, tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sign.isupper():
        monkeypatch.setenv(sign, "true")
    else:
        (tmp_path / ".dockerenv").touch()
        monkeypatch.setattr("rd_import.session.CONTAINER_MARKS", (tmp_path / ".dockerenv",))
    monkeypatch.setenv("RD_IMPORT_TOKEN", OPAQUE)
    address = ("--base-url", "https://api.invalid", "--yes")
    done = rd_import(save(tmp_path / "a.csv", orders(3)), *TYPE, *address)
    assert done.code == 2
    assert "--ledger" in done.err
    assert not (tmp_path / "state").exists() or not list((tmp_path / "state").rglob("ledger.db"))
    assert opened(tmp_path / "kept.db", "shop", token=OPAQUE)


def test_on_this_machine_a_practice_server_needs_no_named_ledger(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    assert rd_import(*job(tmp_path / "a.csv", 3)).code == 0
    assert registered(sandbox) == dict.fromkeys(range(1, 4), 1)


def test_a_rotated_refresh_token_is_of_the_same_account(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest token of the store, set by hand under another label, would hide what was sent before."""
    ledger = tmp_path / "a.db"
    monkeypatch.setattr("rd_import.session.is_loopback", lambda _: False)
    monkeypatch.setattr("rd_import.session.scope_of", lambda account, _: f"real {account.label}")
    with Sandbox(behaviour=Behaviour(token_lives_requests=3, refresh_rotates=True)) as server:
        point_at(server, monkeypatch, renews=True)
        assert rd_import(*job(tmp_path / "a.csv", 20, 5), "--ledger", ledger).code == 0
        assert server.refreshes == 1
        point_at(server, monkeypatch, renews=True)  # its newest refresh token
        words = job(tmp_path / "a.csv", 20, 5)
        done = rd_import(
            *words, "--ledger", ledger, "--account", "other", "--audit", tmp_path / "b"
        )
        assert done.code == 2
        assert "belong to" in done.err
        assert registered(server) == dict.fromkeys(range(1, 21), 1)


def test_a_token_that_names_no_account_leaves_the_label_on_trust(tmp_path: Path) -> None:
    assert opened(tmp_path / "a.db", "shop", token="one" + OPAQUE)
    assert opened(tmp_path / "a.db", "shop", token="two" + OPAQUE)
    assert opened(tmp_path / "a.db", "other", token=jwt(iss="https://api.rd.services"))


def test_a_mix_of_label_and_account_stops_the_command_with_2(
    tmp_path: Path, rd_import: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path / "a.csv", orders(3))
    ledger = ("--ledger", tmp_path / "a.db")
    opened(tmp_path / "a.db", "shop", token=jwt(account_id="1"))
    monkeypatch.setenv("RD_IMPORT_TOKEN", jwt(account_id="1"))
    assert rd_import("check", file, *TYPE, *ledger, "--account", "shop").code == 0
    mixed = rd_import("check", file, *TYPE, *ledger, "--account", "branch")
    assert mixed.code == 2
    assert "--account" in mixed.err
    monkeypatch.setenv("RD_IMPORT_TOKEN", jwt(account_id="2"))
    mixed = rd_import(file, *TYPE, *ledger, "--account", "shop", "--yes")
    assert mixed.code == 2


# --- routes


def leads(count: int, first: int = 1, **changes: Any) -> list[Row]:
    return [
        {"email": f"c{number:06}@example.com", "conversion_identifier": f"{number:06}", **changes}
        for number in range(first, first + count)
    ]


@pytest.fixture
def by_key(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """An account of which only the API key is known."""
    monkeypatch.delenv("RD_IMPORT_TOKEN")
    monkeypatch.setenv("RD_IMPORT_API_KEY", sandbox.api_key)
    return sandbox


def test_an_api_key_sends_conversions_one_by_one(
    tmp_path: Path, rd_import: Command, by_key: Sandbox
) -> None:
    by_key.behaviour = Behaviour(
        refused_contacts=("c000003@example.com",), faults=(Fault("drop-after", at=(2,)),)
    )
    file = save(tmp_path / "a.csv", leads(6))
    done = rd_import(file, *CONVERSION, "--json", "-v", "--audit", tmp_path / "a.parquet")
    assert done.code == 5
    assert done.json["states"] == {"accepted": 4, "refused": 1, "unknown": 1}
    assert set(posts(by_key)) == {api_facts.CONVERSIONS_PATH}
    assert (largest_body(by_key), len(by_key.requests())) == (1, 6)
    assert broken_promises(by_key, [tmp_path / "a.parquet"]) == []
    again = rd_import(file, *CONVERSION, "--json", "--audit", tmp_path / "b.parquet")
    assert again.json["requests"] == 1  # what was refused
    ledger = next((tmp_path / "state").rglob("ledger.db"))
    for text in (done.out, done.err, str(done.audit), again.err):
        assert by_key.api_key not in text
    for path in (tmp_path / "a.parquet", ledger, *ledger.parent.glob("ledger.db-*")):
        assert by_key.api_key.encode() not in path.read_bytes()


def test_an_api_key_is_not_in_what_is_said_of_a_broken_connection(
    tmp_path: Path, rd_import: Command, by_key: Sandbox, time_passes: FakeTime
) -> None:
    by_key.behaviour = Behaviour(faults=(Fault("reset-early", from_request=1),))
    file = save(tmp_path / "a.csv", leads(2))
    done = rd_import(file, *CONVERSION, "--json", "-v")
    by_key.stop()
    gone = rd_import(file, *CONVERSION, "--json", "-v", "--audit", tmp_path / "b.parquet")
    assert done.code in {1, 5}
    assert (gone.code, gone.json["stopped_by"]) == (1, "outage")
    for one in (done, gone):
        assert by_key.api_key not in one.out + one.err + str(one.audit)
    assert time_passes.passed_s <= 600


def test_an_api_key_sends_nothing_else_and_a_wrong_one_ends_in_4(
    tmp_path: Path, rd_import: Command, by_key: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = rd_import(save(tmp_path / "o.csv", orders(2)), *TYPE, "--json")
    assert refused.code == 2
    assert "RD_IMPORT_TOKEN" in refused.err
    monkeypatch.setenv("RD_IMPORT_API_KEY", "wrong-key")
    wrong = rd_import(save(tmp_path / "a.csv", leads(2)), *CONVERSION, "--json")
    assert (wrong.code, wrong.json["states"]) == (4, {"not_sent": 2})
    assert "wrong-key" not in wrong.out + wrong.err + str(wrong.audit)
    assert by_key.events() == []


def test_the_preview_says_that_an_api_key_sends_one_event_a_request(
    tmp_path: Path, rd_import: Command, by_key: Sandbox
) -> None:
    done = rd_import(save(tmp_path / "a.csv", leads(5)), *CONVERSION)
    assert done.code == 0
    assert "API key" in done.out
    assert "5 requests" in done.out
    assert len(by_key.requests()) == 5


def test_a_token_wins_over_an_api_key(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RD_IMPORT_API_KEY", sandbox.api_key)
    assert rd_import(save(tmp_path / "a.csv", leads(5)), *CONVERSION).code == 0
    assert posts(sandbox) == [api_facts.BATCH_PATH]


def test_a_batch_of_one_goes_to_the_single_endpoint(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    done = rd_import(*job(tmp_path / "a.csv", 11, 5), "--audit", tmp_path / "a.parquet")
    assert done.json["states"] == {"accepted": 11}
    assert Counter(posts(sandbox)) == {api_facts.BATCH_PATH: 2, api_facts.SINGLE_PATH: 1}
    assert broken_promises(sandbox, [tmp_path / "a.parquet"]) == []


# --- what is learnt of an account


def test_a_smaller_body_limit_is_learnt_once(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(max_body_bytes=20_000)
    rows, _ = sized(orders(600), None, TYPE[1])
    first = rd_import(save(tmp_path / "a.csv", rows), *TYPE, "--json")
    assert first.json["states"] == {"accepted": 600}
    assert statuses(sandbox)[413] >= 1
    before = statuses(sandbox)[413]
    rows, _ = sized(orders(600, first=1000), None, TYPE[1])
    second = rd_import(save(tmp_path / "b.csv", rows), *TYPE, "--json")
    assert second.json["states"] == {"accepted": 600}
    assert statuses(sandbox)[413] == before
    assert set(registered(sandbox).values()) == {1}


def test_an_event_larger_than_the_learnt_limit_is_tried_alone(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Halving learns a limit that is lower than the true one; an event in between is not our mistake."""
    sandbox.behaviour = Behaviour(max_body_bytes=3_000)
    rows, _ = sized(orders(40), None, TYPE[1])
    assert rd_import(save(tmp_path / "a.csv", rows), *TYPE, "--json").code == 0
    rows = orders(3, first=100)
    rows[1]["name"] = "x" * 2_700
    done = rd_import(save(tmp_path / "b.csv", rows), *TYPE, "--json")
    assert (done.code, done.json["states"]) == (0, {"accepted": 3})
    assert registered(sandbox).total() == 43


def test_up_to_the_learnt_limit_of_a_contact_is_sent_and_the_rest_deferred(
    tmp_path: Path, rd_import: Command, time_passes: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(behaviour=Behaviour(contact_limit=24), clock=time_passes.now) as server:
        point_at(server, monkeypatch)
        rows = [row | {"email": f"c{at // 30}@example.com"} for at, row in enumerate(orders(300))]
        rows, options = sized(rows, 50, TYPE[1])
        words = [str(save(tmp_path / "a.csv", rows)), *TYPE, "--json", *options]
        done = rd_import(*words, "--audit", tmp_path / "a.parquet")
        assert done.code == 6
        by_contact = Counter(one.event["payload"]["email"] for one in server.events())  # type: ignore[index]
        assert max(by_contact.values()) <= 24
        # of the contact whose 429 taught the limit nothing may have gone; of every other, all it may have
        assert sorted(by_contact.values())[-9:] == [24] * 9
        assert done.json["states"]["deferred"] == 300 - by_contact.total()
        deferred = [row for row in done.audit if row["state"] == "deferred"]
        assert all(row["not_before"] is not None for row in deferred)
        limited = statuses(server)[429]
        assert limited <= 2

        soon = rd_import(*words, "--audit", tmp_path / "b.parquet")
        assert (soon.code, soon.json["requests"]) == (6, 0)
        time_passes.advance(DAY_S + 60)
        later = rd_import("resume", done.json["run_id"], "--json")
        assert (later.code, later.json["states"]) == (0, {"accepted": 300})
        assert registered(server) == dict.fromkeys(range(1, 301), 1)
        assert statuses(server)[429] == limited


def test_a_contact_limit_that_names_no_contact_is_found_by_halving(
    tmp_path: Path, rd_import: Command, time_passes: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = Behaviour(contact_limit=3, contact_limit_names_contact=False)
    with Sandbox(behaviour=behaviour, clock=time_passes.now) as server:
        point_at(server, monkeypatch)
        rows = orders(40)
        for row in rows[10:16]:
            row["email"] = "eager@example.com"
        done = rd_import(save(tmp_path / "a.csv", rows), *TYPE, "--json")
        assert done.code == 6
        assert done.json["states"]["accepted"] >= 34
        assert done.json["states"]["accepted"] + done.json["states"]["deferred"] == 40
        assert set(registered(server).values()) == {1}
        assert done.json["requests"] <= 20
        assert time_passes.passed_s == 0


def test_qualification_events_wait_for_contacts_that_were_created_just_now(
    tmp_path: Path, rd_import: Command, time_passes: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = Behaviour(unknown_contact="not-found", contact_ready_s=240)
    with Sandbox(behaviour=behaviour, clock=time_passes.now) as server:
        point_at(server, monkeypatch)
        rd_import(save(tmp_path / "old.csv", leads(2)), *CONVERSION)
        time_passes.advance(3600)
        rd_import(save(tmp_path / "new.csv", leads(2, first=3)), *CONVERSION)
        began = time_passes.passed_s
        deals = [{"email": row["email"], "funnel_name": "default"} for row in leads(4)]
        done = rd_import(save(tmp_path / "deals.csv", deals), "--type", "OPPORTUNITY", "--json")
        assert (done.code, done.json["states"]) == (0, {"accepted": 4})
        assert 240 <= time_passes.passed_s - began <= 360
        assert statuses(server)[404] == 0
        at = [
            (row["answered_at"] - done.audit[0]["answered_at"]).total_seconds()
            for row in done.audit
        ]
        assert at[0] == at[1] == 0, "those of older contacts wait for nobody"
        assert min(at[2:]) >= 240


# --- refusals


def poisoned(path: Path, count: int, at: int, per_request: int | None) -> list[str]:
    rows = orders(count)
    rows[at]["email"] = POISON
    rows, options = sized(rows, per_request, TYPE[1])
    return [str(save(path, rows)), *TYPE, "--json", *options, "--audit", str(path) + ".parquet"]


@pytest.mark.parametrize("at", [0, 199, 1037, 1999])
@pytest.mark.parametrize(("bad_event", "extra"), [("index", 1), ("no-index", 20)])
def test_one_poison_row_costs_few_requests_and_no_other_row(
    bad_event: str, extra: int, at: int, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(bad_event=bad_event, refused_contacts=(POISON,))
    done = rd_import(*poisoned(tmp_path / "a.csv", 2_000, at, 200))
    assert (done.code, done.json["states"]) == (3, {"accepted": 1_999, "refused": 1})
    assert done.json["requests"] <= 10 + extra
    assert set(registered(sandbox).values()) == {1}
    assert registered(sandbox).total() == 1_999
    assert done.audit[at]["state"] == "refused"
    assert done.audit[at]["error_code"] == "INVALID"
    assert broken_promises(sandbox, [Path(done.json["audit"])]) == []


@pytest.mark.slow
@pytest.mark.parametrize(("bad_event", "extra"), [("index", 1), ("no-index", 20)])
def test_one_poison_row_in_a_hundred_thousand(
    bad_event: str, extra: int, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    words = poisoned(tmp_path / "a.csv", 100_000, 61_803, None)
    least = rd_import("check", *words[:-2]).json["preview"]["requests"]
    sandbox.behaviour = Behaviour(bad_event=bad_event, refused_contacts=(POISON,))
    done = rd_import(*words)
    assert (done.code, done.json["states"]) == (3, {"accepted": 99_999, "refused": 1})
    assert done.json["requests"] <= least + extra
    assert set(registered(sandbox).values()) == {1}


@pytest.mark.parametrize("bad_event", ["index", "no-index"])
def test_what_is_wrong_in_every_row_costs_a_handful_of_requests(
    bad_event: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    everybody = tuple(f"c{number:06}@example.com" for number in range(1, 2_001))
    sandbox.behaviour = Behaviour(bad_event=bad_event, refused_contacts=everybody)
    words = job(tmp_path / "a.csv", 2_000, 200)
    done = rd_import(*words, "--audit", tmp_path / "a.parquet")
    assert (done.code, done.json["stopped_by"]) == (1, "refused")
    assert done.json["requests"] <= 15
    assert done.json["states"].keys() == {"refused", "not_sent"}
    assert sandbox.events() == []
    sandbox.behaviour = Behaviour()
    mended = rd_import(*words, "--audit", tmp_path / "b.parquet")
    assert (mended.code, mended.json["states"]) == (0, {"accepted": 2_000})


def refusing(server: Sandbox, numbers: range) -> None:
    server.behaviour = Behaviour(
        refused_contacts=tuple(f"c{number:06}@example.com" for number in numbers)
    )


@pytest.mark.parametrize("bad_event", ["index", "no-index"])
def test_a_bad_row_in_every_batch_does_not_stop_a_run(
    bad_event: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """Half a percent of the rows, all for the same reason, and as many as are always allowed."""
    numbers = range(150, 4_001, 200)
    contacts = tuple(f"c{number:06}@example.com" for number in numbers)
    sandbox.behaviour = Behaviour(bad_event=bad_event, refused_contacts=contacts)
    done = rd_import(*job(tmp_path / "a.csv", 4_000, 200))
    assert (done.code, done.json["stopped_by"]) == (3, None)
    assert done.json["states"] == {"accepted": 3_980, "refused": 20}
    assert set(registered(sandbox).values()) == {1}


def test_more_refusals_than_were_allowed_stop_the_run(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    refusing(sandbox, range(10, 1_001, 10))
    words = job(tmp_path / "a.csv", 1_000, 10)
    done = rd_import(*words, "--audit", tmp_path / "a.parquet")
    assert (done.code, done.json["stopped_by"]) == (1, "refused")
    assert 3 <= done.json["states"]["refused"] <= 21 + 16
    allowed = rd_import(*words, "--max-refused", "20%", "--audit", tmp_path / "b.parquet")
    assert (allowed.code, allowed.json["stopped_by"]) == (3, None)
    assert allowed.json["states"]["refused"] == 100
    assert set(registered(sandbox).values()) == {1}
    assert registered(sandbox).total() == 900


# --- outages


def down(from_request: int = 1) -> Behaviour:
    return Behaviour(faults=(Fault("status", status=502, html=True, from_request=from_request),))


def test_an_outage_costs_three_requests_then_one_event_a_run_and_ten_in_all(
    tmp_path: Path, rd_import: Command, time_passes: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = job(tmp_path / "a.csv", 500, 10)
    with Sandbox(behaviour=down(), clock=time_passes.now) as server:
        point_at(server, monkeypatch)

        def run(number: int) -> tuple[int, int, int]:
            done = rd_import(*words, "--audit", tmp_path / f"{number}.parquet")
            assert done.json["stopped_by"] == "outage"
            assert sum(done.json["states"].values()) == 500
            return done.code, done.json["requests"], done.json["states"]["unknown"]

        assert run(0) == (1, 3, 30)
        full = [one.body_bytes for one in server.requests()]
        for number in range(1, 8):
            assert run(number) == (1, 1, 30 + number)
            assert server.requests()[-1].body_bytes < min(full) / 5, "a body of one event"
        assert run(8) == (1, 0, 37), "ten requests of a day are open; no more until a person looks"
        server.behaviour = Behaviour()
        assert run(9) == (1, 0, 37)

        time_passes.advance(DAY_S + 60)
        done = rd_import(*words, "--audit", tmp_path / "last.parquet")
        assert (done.code, done.json["states"]) == (5, {"accepted": 463, "unknown": 37})
        assert server.requests()[10].events == 1, "it begins with one event"
        assert set(registered(server).values()) == {1}
        assert broken_promises(server, [tmp_path / "last.parquet"]) == []


@pytest.mark.parametrize(("options", "most"), [((), 10), (("--max-unknown", "4"), 4)])
def test_an_outage_in_full_flight_costs_no_more_than_was_allowed(
    options: tuple[str, ...], most: int, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(latency_ms=15, faults=down(from_request=20).faults)
    done = rd_import(*job(tmp_path / "a.csv", 500, 5), *options, "--audit", tmp_path / "a.parquet")
    assert (done.code, done.json["stopped_by"]) == (1, "outage")
    assert 3 <= done.json["states"]["unknown"] / 5 <= most
    assert done.json["states"]["accepted"] == 19 * 5
    assert broken_promises(sandbox, [tmp_path / "a.parquet"]) == []


def test_answers_that_come_in_between_do_not_lift_the_total(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    """F2: never three in a row, and yet no more than ten."""
    sandbox.behaviour = Behaviour(faults=(Fault("status", status=502, every=2),))
    rows = orders(500)
    for row in rows[
        ::5
    ]:  # a contact in common keeps requests from being in flight together, in any order
        row["email"] = rows[0]["email"]
    made, options = sized(rows, 5, TYPE[1])
    words = [save(tmp_path / "a.csv", made), *TYPE, "--json", *options]
    done = rd_import(*words, "--audit", tmp_path / "a.parquet")
    assert (done.code, done.json["stopped_by"]) == (1, "outage")
    assert done.json["states"]["unknown"] == 50
    assert broken_promises(sandbox, [tmp_path / "a.parquet"]) == []


def test_what_a_person_resolved_does_not_count_any_more(
    tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(faults=(Fault("drop-after", every=2),))
    words = job(tmp_path / "a.csv", 200, 5)
    first = rd_import(*words, "--audit", tmp_path / "a.parquet")
    assert first.json["states"]["unknown"] == 50
    sandbox.behaviour = Behaviour()
    run = first.json["run_id"]
    assert rd_import("resume", run, "--json").json["requests"] == 0
    rd_import("resolve", run, "--confirmed", "--why", "seen")
    done = rd_import("resume", run, "--json")
    assert (done.code, done.json["states"]) == (0, {"accepted": 150, "unknown": 50})
    assert registered(sandbox) == dict.fromkeys(range(1, 201), 1)


# --- two at once


@pytest.mark.parametrize("overlap", ["half", "whole"])
def test_two_processes_with_overlapping_files_send_each_event_once(
    overlap: str, tmp_path: Path, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(latency_ms=25)
    first = 1 if overlap == "whole" else 101
    jobs = [job(tmp_path / "a.csv", 200, 5), job(tmp_path / "b.csv", 200, 7, first=first)]
    audits = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    running = [
        start(*words, "--audit", str(path)) for words, path in zip(jobs, audits, strict=True)
    ]
    ended = [(process.communicate(timeout=60), process.returncode) for process in running]
    for (out, err), code in ended:
        assert code == 0, err
        assert sum(json.loads(out)["states"].values()) == 200
        assert json.loads(out)["states"].keys() <= {"accepted", "already_accepted"}
    assert registered(sandbox) == dict.fromkeys(range(1, 200 + first), 1)
    for path in audits:
        assert broken_promises(sandbox, [path]) == [
            f"{number} stands on the server and is None"
            for number in registered(sandbox)
            if number not in {int(row["identifier"]) for row in pq.read_table(path).to_pylist()}
        ]
    assert broken_promises(sandbox, audits) == []


def test_the_same_command_twice_at_once_sends_each_event_once(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(latency_ms=25)
    words = job(tmp_path / "a.csv", 200, 5)
    running = [start(*words, "--audit", str(tmp_path / f"{at}.parquet")) for at in range(2)]
    ended = [(process.communicate(timeout=60), process.returncode) for process in running]
    for (_, err), code in ended:
        assert code == 0, err
    assert registered(sandbox) == dict.fromkeys(range(1, 201), 1)


# --- probe


class Person:
    """Looks the test contact up in the sandbox, and answers what is true."""

    def __init__(self, server: Sandbox) -> None:
        self._server = server

    def readline(self) -> str:
        conversions = [
            one for one in self._server.events() if one.event["event_type"] == "CONVERSION"
        ]
        return "y\n" if conversions else "n\n"


VARIANTS = {
    "index": {"names_index": True, "partial": False},
    "no-index": {"names_index": False, "partial": False},
    "partial": {"names_index": True, "partial": True},
    "partial-no-index": {"names_index": False, "partial": True},
    "partial-200": {"names_index": False, "partial": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("refuses", [False, True])
def test_the_probe_finds_out_how_an_account_behaves_and_it_is_held_to(
    refuses: bool,
    variant: str,
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sandbox.behaviour = Behaviour(
        bad_event=variant, batch_refuses_ecommerce=refuses, refused_contacts=(POISON,)
    )
    monkeypatch.setattr("rd_import.commands.ask.open_terminal", lambda: Person(sandbox))
    probed = rd_import("probe", "tester@example.com", "--json")
    assert probed.code == 0
    facts = {name: probed.json[name] for name in ("names_index", "partial", "ecommerce_in_batch")}
    assert facts == VARIANTS[variant] | {"ecommerce_in_batch": not refuses}
    assert {one.event["payload"]["email"] for one in sandbox.events()} <= {"tester@example.com"}  # type: ignore[index]

    before = len(sandbox.events()), len(sandbox.requests())
    done = rd_import(*poisoned(tmp_path / "a.csv", 30, 17, 10))
    assert (done.code, done.json["states"]) == (3, {"accepted": 29, "refused": 1})
    copies = registered(sandbox, since=before[0])
    assert set(copies.values()) == {1}
    assert copies.total() == 29
    alone = facts["partial"] or refuses
    assert max(one.events for one in sandbox.requests()[before[1] :]) == (1 if alone else 10)


@pytest.mark.parametrize("variant", ["partial", "partial-no-index"])
def test_before_the_probe_a_partial_account_gets_duplicates_and_the_audit_names_the_assumption(
    variant: str, tmp_path: Path, rd_import: Command, sandbox: Sandbox
) -> None:
    sandbox.behaviour = Behaviour(bad_event=variant, refused_contacts=(POISON,))
    done = rd_import(*poisoned(tmp_path / "a.csv", 30, 17, 10))
    assert done.json["states"] == {"accepted": 29, "refused": 1}
    assert max(registered(sandbox).values()) > 1
    assumption = pq.read_metadata(done.json["audit"]).metadata[b"rd_import.assumption"]
    assert b"accepted none of its events" in assumption


@pytest.mark.parametrize("status", [429, 413, 400, 503])
def test_a_probe_that_gets_no_real_answer_learns_nothing(
    status: int,
    tmp_path: Path,
    rd_import: Command,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a used-up quota nor a broken body says what becomes of a batch with a bad event."""
    sandbox.behaviour = Behaviour(
        bad_event="partial", faults=(Fault("status", status=status, at=(1,)),)
    )
    monkeypatch.setattr("rd_import.commands.ask.open_terminal", lambda: Person(sandbox))
    done = rd_import("probe", "tester@example.com", "--json")
    assert done.code in {1, 4}
    sandbox.behaviour = Behaviour()
    assert rd_import(*job(tmp_path / "a.csv", 30, 10)).json["requests"] == 3


def test_a_probe_with_a_wrong_token_ends_in_4(
    rd_import: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rd_import.commands.ask.open_terminal", lambda: Person(sandbox))
    monkeypatch.setenv("RD_IMPORT_TOKEN", "wrong")
    assert rd_import("probe", "tester@example.com").code == 4
    assert sandbox.events() == []
