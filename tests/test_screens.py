"""What a person sees on a terminal of 80 columns, in both languages."""

import io
from pathlib import Path

import pytest

from command_line import SAMPLE_DATA
from conftest import Command
from rd_import.progress import Progress, progress_on
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
    assert last.index("LIGAM o consentimento") < last.index("Enviar 3 eventos para https")


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
            "12 accepted received by RD Station",
            "2 invalid invalid, not sent",
            "14 rows in all, 1 request",
            "audit: out.audit.parquet",
            "rejected rows: out.rejected.csv",
            "hint: mend the rows in out.rejected.csv, then send exactly those events: rd-import",
            "hint: this was practice, and nothing reached RD Station",
        ],
        "pt-BR": [
            "12 accepted recebido pelo RD Station",
            "2 invalid inválido, não enviado",
            "14 linhas ao todo, 1 requisição",
            "auditoria: out.audit.parquet",
            "linhas rejeitadas: out.rejected.csv",
            "dica: corrija as linhas em out.rejected.csv; depois, para enviar exatamente esses eventos:",
            "dica: isto foi um treino, e nada chegou ao RD Station",
        ],
    }[lang]
    assert [text for text in wanted if text not in closing] == []


# --- progress


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
