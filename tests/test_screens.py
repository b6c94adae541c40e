"""What a person sees on a terminal of 80 columns, in both languages."""

import io
import re
from pathlib import Path

import pytest

from command_line import SAMPLE_DATA
from conftest import Command
from rd_import.progress import Progress, progress_on
from rd_import.sandbox import Behaviour, Fault, Sandbox
from rd_import.send import Sending

pytest.importorskip("pty", reason="terminals of POSIX")

from pseudo_terminal import COLUMNS, on_a_terminal

HEADER = "identifier,email,currency,price,total_items,event_timestamp,{consent}\n"
CONSENT = "legal_bases.communications.type,legal_bases.communications.status"
NOWHERE = ("--base-url", "https://rd.invalid", "--ledger", "ledger.db")
TOKEN = {"RD_IMPORT_TOKEN": "not-a-real-token"}


def orders(
    folder: Path, count: int, *, status: str = "granted", date: str = "2020-01-02T10:00:00Z"
) -> str:
    lines = [
        f"{n},c{n}@example.com,BRL,{10 + n}.50,1,{date},consent,{status}\n" for n in range(count)
    ]
    path = folder / "orders.csv"
    path.write_text(HEADER.format(consent=CONSENT) + "".join(lines), encoding="utf-8")
    return path.name


ORDER = ("--type", "ECOMMERCE_ORDER_PLACED")


@pytest.mark.parametrize("lang", ["en", "pt-BR"])
def test_the_preview_fits_the_terminal_with_the_gravest_first(tmp_path: Path, lang: str) -> None:
    screen = on_a_terminal(
        "check", orders(tmp_path, 30), *ORDER, "--lang", lang, cwd=tmp_path, state=tmp_path
    )

    assert screen.code == 7  # the age of the events is a question
    assert [line for line in screen.lines if len(line) > COLUMNS] == []
    top = " ".join(" ".join(screen.lines[:18]).split())
    wanted = {
        "en": [
            "30 events will be sent, to 30 contacts",
            "1 request (",
            "Know before you send",
            "! RD Station dates every event on arrival: automations fire now",
            "! 30 events are more than 7 days old; say --past send or --past skip",
            "! 30 events switch consent ON: legal basis communications, granted",
        ],
        "pt-BR": [
            "30 eventos serão enviados, para 30 contatos",
            "1 requisição (",
            "Saiba antes de enviar",
            "! o RD Station data cada evento na chegada: as automações disparam agora",
            "! 30 eventos têm mais de 7 dias; diga --past send ou --past skip",
            "! 30 eventos LIGAM o consentimento: base legal communications, granted",
        ],
    }[lang]
    places = [top.find(text) for text in wanted]
    assert -1 not in places, top
    assert places == sorted(places)


def test_switching_consent_off_is_told_apart(tmp_path: Path, rd_import: Command) -> None:
    name = orders(tmp_path, 3, status="declined")
    shown = rd_import("check", tmp_path / name, *ORDER, "--past", "skip").out
    assert "3 events switch consent OFF" in shown
    assert "are left out (--past skip)" in shown


def test_colours_mark_the_warnings_and_no_color_takes_them_away(
    tmp_path: Path, rd_import: Command
) -> None:
    name = orders(tmp_path, 2)
    words = ("check", name, *ORDER)
    coloured = on_a_terminal(*words, cwd=tmp_path, state=tmp_path)
    plain = on_a_terminal(*words, cwd=tmp_path, state=tmp_path, env={"NO_COLOR": "1"})
    piped = rd_import("check", tmp_path / name, *ORDER).out

    assert "\x1b[33m\x1b[1m  ! RD Station dates" in coloured.raw
    assert "\x1b[" not in plain.raw
    assert "\x1b[" not in piped
    assert plain.lines == coloured.lines


def test_a_few_contacts_take_a_yes(tmp_path: Path) -> None:
    """Right before it is asked, what must not be overlooked is said once more."""
    words = (orders(tmp_path, 3), *ORDER, "--past", "send", *NOWHERE, "--lang", "pt-BR")
    no = on_a_terminal(*words, cwd=tmp_path, state=tmp_path, env=TOKEN, answer="n\n")
    assert no.code == 130
    assert "parado; nada foi enviado." in no.text
    _, _, last = no.text.rpartition("Saiba antes de enviar")
    assert last.index("LIGAM o consentimento") < last.index(
        "Enviar 3 eventos para RD Station (https"
    )


def test_what_nobody_named_is_asked_for_with_what_each_type_is(tmp_path: Path) -> None:
    """A practice run asks like a real one, so that it can be practised."""
    (tmp_path / "shop.csv").write_text(
        "Name,Email,Financial Status,Total,Currency,Lineitem quantity,Lineitem name,Lineitem price,"
        "Outstanding Balance,Payment References\n#1,ana@example.com,paid,9,BRL,1,Camisa,9,0,x\n",
        encoding="utf-8",
    )
    screen = on_a_terminal(
        "shop.csv", "--sandbox", cwd=tmp_path, state=tmp_path, answer="2\ny\nn\n"
    )
    assert "2 ECOMMERCE_ORDER_PAID Payment of an order was confirmed." in screen.text
    assert screen.code == 0
    assert "  rd-import shop.csv --type ECOMMERCE_ORDER_PAID" in screen.lines


@pytest.mark.parametrize("answer", ["y\n", "1000\n"])
def test_more_than_a_thousand_contacts_take_their_number(tmp_path: Path, answer: str) -> None:
    words = (orders(tmp_path, 1001), *ORDER, "--past", "send", *NOWHERE)
    screen = on_a_terminal(*words, cwd=tmp_path, state=tmp_path, env=TOKEN, answer=answer)
    assert screen.code == 130
    assert "Type the number of contacts (1001) to send" in screen.text
    assert "nothing is sent" in screen.text


@pytest.mark.parametrize("lang", ["en", "pt-BR"])
def test_the_closing_screen_sums_and_names_what_to_do_next(tmp_path: Path, lang: str) -> None:
    words = (str(SAMPLE_DATA / "orders.csv"), *ORDER, "--sandbox", "--lang", lang)
    audit = ("--audit", "out.audit.parquet")
    screen = on_a_terminal(*words, *audit, cwd=tmp_path, state=tmp_path, answer="s\nn\n")

    assert screen.code == 3
    commands = [line for line in screen.lines if line.startswith("  rd-import ")]
    asked = "--type ECOMMERCE_ORDER_PLACED"
    assert commands == [
        f"  rd-import out.rejected.csv {asked} --sandbox",
        f"  rd-import {SAMPLE_DATA / 'orders.csv'} {asked}",
    ]
    first = next(at for at, line in enumerate(screen.lines) if "12 accepted" in line)
    assert {line for line in screen.lines[first:] if len(line) > COLUMNS} <= set(commands)
    closing = " ".join(" ".join(screen.lines[first:]).split())
    wanted = {
        "en": [
            "12 accepted received, and given an id",
            "2 invalid invalid, not sent",
            "14 rows in all, 1 request",
            "audit: out.audit.parquet",
            "rejected rows: out.rejected.csv",
            "hint: mend the rows in out.rejected.csv, then send exactly those events: rd-import",
            "hint: to send it to RD Station, log in (rd-import login), then:",
        ],
        "pt-BR": [
            "12 accepted recebido, com um id",
            "2 invalid inválido, não enviado",
            "14 linhas ao todo, 1 requisição",
            "auditoria: out.audit.parquet",
            "linhas rejeitadas: out.rejected.csv",
            "dica: corrija as linhas em out.rejected.csv; depois, para enviar exatamente esses eventos:",
            "dica: para enviar ao RD Station, entre na conta (rd-import login) e depois:",
        ],
    }[lang]
    assert [text for text in wanted if text not in closing] == []


# --- progress


SHOPIFY = (
    "Name,Email,Financial Status,Total,Currency,Lineitem quantity,Lineitem name,Lineitem price,"
    "Outstanding Balance,Payment References,Created at\n"
)


def shopify(folder: Path, *, date: str = "2020-01-02 10:00:00 -0300") -> str:
    lines = [
        f"#1,ana@example.com,paid,19,BRL,1,Camisa,9,0,x,{date}\n#1,ana@example.com,,,,1,Calça,10,,,\n",
        f"#2,bia@example.com,paid,9,BRL,1,Camisa,9,0,x,{date}\n",
        f'#3,"ana,gmail",paid,9,BRL,1,Camisa,9,0,x,{date}\n',
    ]
    path = folder / "shop.csv"
    path.write_text(SHOPIFY + "".join(lines), encoding="utf-8")
    return path.name


def test_the_rows_of_a_preview_sum(tmp_path: Path) -> None:
    """Rows that make events, those that will not go, and all; what --past skip leaves out is no event to send."""
    words = ("check", shopify(tmp_path), *ORDER)
    screen = on_a_terminal(*words, cwd=tmp_path, state=tmp_path)
    assert "2 events will be sent, to 2 contacts" in screen.text
    assert "3 rows, in 2 events 1 row that will not go; why stands below 4 rows in all" in (
        screen.text
    )
    skipped = on_a_terminal(*words, "--past", "skip", cwd=tmp_path, state=tmp_path)
    assert "there is nothing to send" in skipped.text
    assert "to send it:" not in skipped.text


def test_a_preview_says_what_is_certain_in_a_line_and_names_each_column_once(
    tmp_path: Path,
) -> None:
    screen = on_a_terminal("check", shopify(tmp_path), *ORDER, cwd=tmp_path, state=tmp_path)
    assert "certain: encoding utf-8; " in screen.text
    assert "known of this platform: email = Email identifier = Name" in screen.text


def test_a_column_of_consent_that_is_not_used_is_pointed_out(tmp_path: Path) -> None:
    """Who answers for people's data must not find out later that it was in the file."""
    path = tmp_path / orders(tmp_path, 2)
    lines = path.read_text("utf-8").splitlines()
    marked = [f"{lines[0]},Aceita Marketing,Cor", *(f"{line},não,azul" for line in lines[1:])]
    path.write_text("\n".join(marked) + "\n", encoding="utf-8")
    screen = on_a_terminal(
        "check", path.name, *ORDER, "--lang", "pt-BR", cwd=tmp_path, state=tmp_path
    )
    assert "não usadas: `Aceita Marketing`, `Cor`" in screen.text
    assert screen.text.count("ninguém fica de fora e nenhum consentimento muda: `Aceita") == 1


def test_a_check_that_would_send_nothing_proposes_no_sending(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(
        "email,identifier,currency,price,total_items\nx,1,REAL,1,1\n", encoding="utf-8"
    )
    screen = on_a_terminal("check", "bad.csv", *ORDER, cwd=tmp_path, state=tmp_path)
    assert screen.code == 7
    assert "more than 50%; nothing was sent." in screen.text
    assert "to send it:" not in screen.text


def test_a_wrong_answer_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_text(
        "Quando,Origem,Status,Email\n21/11/2026 20:00:00,1130001000,Atendida,ana@example.com\n",
        encoding="utf-8",
    )
    chosen = on_a_terminal(
        "map", "calls.csv", "--lang", "pt-BR", cwd=tmp_path, state=tmp_path,
        answer="99\ncall_finished\nOrigm\norigem\n",
    )  # fmt: skip
    assert chosen.code == 0
    assert "`99` não é um deles; digite um número de 1 a" in chosen.text
    assert "call_from_number: Número de rastreamento da ligação. Exemplo: +55" in chosen.text
    assert "não existe a coluna `Origm`" in chosen.text
    assert 'call_from_number = "Origem"' in (tmp_path / "calls.toml").read_text("utf-8")


def test_a_missing_column_names_the_command_that_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "my orders.csv").write_text("Pedido;E-mail;Valor Total;Qtd\n", encoding="utf-8")
    screen = on_a_terminal("check", "my orders.csv", *ORDER, cwd=tmp_path, state=tmp_path)
    assert screen.code == 2
    assert "--set currency=BRL (or --rename currency=COLUMN)" in screen.text
    assert "  rd-import map 'my orders.csv' --type ECOMMERCE_ORDER_PLACED" in screen.lines


def test_where_nothing_is_left_to_send_nothing_is_asked(tmp_path: Path, sandbox: Sandbox) -> None:
    env = {"RD_IMPORT_BASE_URL": sandbox.url, "RD_IMPORT_TOKEN": sandbox.token}
    words = (orders(tmp_path, 3), *ORDER)
    first = on_a_terminal(*words, cwd=tmp_path, state=tmp_path, env=env, answer="y\nn\n")
    assert first.code == 0
    again = on_a_terminal(*words, cwd=tmp_path, state=tmp_path, env=env)
    assert again.code == 0
    assert "there is nothing to send 3 of the events were sent earlier" in again.text
    assert "[y/N]" not in again.text


def test_an_erasure_that_is_declined_erases_nothing_and_says_so(tmp_path: Path) -> None:
    screen = on_a_terminal(
        "forget", "ana@example.com", "--lang", "pt-BR", cwd=tmp_path, state=tmp_path, answer="n\n"
    )
    assert screen.code == 130
    assert "parado; nada foi apagado." in screen.text


def test_mended_rows_go_on_under_the_name_of_their_export(tmp_path: Path, sandbox: Sandbox) -> None:
    """A third round has no longer names than the first, and no decisions are kept for a file of leftovers."""
    env = {"RD_IMPORT_BASE_URL": sandbox.url, "RD_IMPORT_TOKEN": sandbox.token}
    name = shopify(tmp_path)
    first = on_a_terminal(name, *ORDER, cwd=tmp_path, state=tmp_path, env=env, answer="y\nn\n")
    assert first.code == 3
    audits = {*tmp_path.glob("*.audit.parquet")}
    [rejected] = tmp_path.glob("*.rejected.csv")
    shown = rejected.read_text("utf-8").replace("ana,gmail", "ana@gmail.com")
    rejected.write_text(
        shown + shown.splitlines()[-1].replace("ana@gmail.com", "x") + "\n", "utf-8"
    )
    again = on_a_terminal(
        rejected.name, *ORDER, "--max-invalid", "100%", cwd=tmp_path, state=tmp_path, env=env, answer="y\n"
    )  # fmt: skip
    assert "Keep these decisions" not in again.text
    assert "rejected_code" not in again.text
    [audit] = {*tmp_path.glob("*.audit.parquet")} - audits
    assert re.fullmatch(r"shop\.\d{8}T\d{12}Z\.audit\.parquet", audit.name)


def test_a_resumed_run_names_the_whole_command_that_sends_what_was_mended(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    """The first token had a typo, and what to do about that is said too."""
    env = {"RD_IMPORT_BASE_URL": sandbox.url, "RD_IMPORT_TOKEN": "typo"}
    words = (shopify(tmp_path), *ORDER, "--set", "shipping_country=BR", "--past", "send")
    refused = on_a_terminal(
        *words, "--ledger", "own.db", cwd=tmp_path, state=tmp_path, env=env, answer="y\nn\n"
    )
    assert refused.code == 4
    assert "RD Station does not know the token, or it has ended" in refused.text

    resumed = on_a_terminal(
        "resume", "--ledger", "own.db", cwd=tmp_path, state=tmp_path,
        env={**env, "RD_IMPORT_TOKEN": sandbox.token},
    )  # fmt: skip
    assert resumed.code == 3
    [rejected] = tmp_path.glob("shop.*.rejected.csv")
    asked = "--type ECOMMERCE_ORDER_PLACED --set shipping_country=BR --past send --ledger own.db"
    assert f"  rd-import {rejected} {asked}" in resumed.lines


def test_unknown_rows_are_decided_about_by_the_clock_of_this_machine(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    """What each decision means stands once; a slip of the finger decides nothing."""
    sandbox.behaviour = Behaviour(faults=(Fault("drop-after", at=(1,)),))
    env = {
        "RD_IMPORT_BASE_URL": sandbox.url,
        "RD_IMPORT_TOKEN": sandbox.token,
        "LC_ALL": "pt_BR.UTF-8",
        "TZ": "UTC+3",  # three hours behind, in POSIX's way of writing it
    }
    words = (orders(tmp_path, 2), *ORDER)
    sent = on_a_terminal(*words, cwd=tmp_path, state=tmp_path, env=env, answer="s\nn\n")
    assert sent.code == 5
    [command] = [line.split() for line in sent.lines if line.startswith("  rd-import resolve ")]

    screen = on_a_terminal(
        *command[1:], cwd=tmp_path, state=tmp_path, env=env, answer="x\nc\nvi lá\n\n"
    )
    assert "`x` não é nenhum deles" in screen.text
    assert screen.text.count("não está lá: enviar mais uma vez") == 1
    assert screen.text.count("UTC-03:00, e o RD Station o mostraria nessa hora") == 2
    status = on_a_terminal("status", cwd=tmp_path, state=tmp_path, env=env)
    assert "UTC-03:00 ECOMMERCE_ORDER_PLACED" in status.text
    assert "1 linha pode estar registrada ou não" in status.text


def test_an_unanswered_question_comes_with_the_command_that_reaches_nobody_by_mistake(
    tmp_path: Path,
) -> None:
    words = (shopify(tmp_path), *ORDER, *NOWHERE)
    real = on_a_terminal(*words, cwd=tmp_path, state=tmp_path, env=TOKEN)
    assert real.code == 7
    [proposed] = [line for line in real.lines if line.startswith("  rd-import shop.csv")]
    assert "--past skip" in proposed
    practice = on_a_terminal(
        "shop.csv", *ORDER, "--sandbox", cwd=tmp_path, state=tmp_path, answer="y\nn\n"
    )
    assert practice.code == 3
    assert "Practice: nothing of this reached RD Station." in practice.lines
    assert f"  rd-import shop.csv {' '.join(ORDER)} --past skip" in practice.lines


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_without_a_terminal_there_is_one_line_a_minute() -> None:
    clock, stream = Clock(), io.StringIO()
    sending = Sending()
    with progress_on(stream, Progress(10_000, 0.5, clock)) as tell:
        for _ in range(300):  # five minutes, one answer a second
            clock.seconds += 1
            sending.requests += 2
            sending.decided_events += 20
            sending.accepted_events += 19
            sending.refused_events += 1
            tell(sending)

    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0] == (
        "1,200 of 10,000 events, 120 requests/min, about 8 minutes left; 1,140 accepted, 60 refused"
    )


def test_the_time_left_is_never_less_than_the_limit_allows() -> None:
    """A burst at the beginning says nothing about an hour of 120 requests a minute."""
    clock = Clock()
    progress = Progress(72_000, 0.5, clock)
    clock.seconds = 1.0
    assert progress.rest_s(Sending(requests=100, decided_events=1000)) == pytest.approx(3550)
    assert progress.rest_s(Sending(requests=1)) is None
    clock.seconds = 1000.0  # slower than the limit: the pace so far counts
    assert progress.rest_s(Sending(requests=100, decided_events=1000)) == pytest.approx(71_000)
