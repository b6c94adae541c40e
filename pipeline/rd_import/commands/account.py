"""The account: `login`, `logout`, `probe`."""

from __future__ import annotations

import getpass
import os
import webbrowser
from dataclasses import replace
from functools import partial
from typing import Any

import click

from rd_import import messages
from rd_import.commands import ask
from rd_import.commands.options import ACCOUNT, LEDGER, OUTPUT, PORT, with_options
from rd_import.commands.screen import configure_logging, print_json, say
from rd_import.commands.watch import watcher_of
from rd_import.commands.words import delivery_of
from rd_import.errors import JobError
from rd_import.job import Account


@click.command()
@with_options(*ACCOUNT, *OUTPUT)
@click.option("--paste", is_flag=True, help="Paste the code; for machines without a browser.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option(
    "--port",
    type=PORT,
    default=8766,
    show_default=True,
    metavar="N",
    help="Of the app's callback address.",
)
def login(*, paste: bool, no_browser: bool, port: int, **given: Any) -> None:
    """Allow rd-import to send to an account: in the browser, once; the tokens stay on this machine.

    The app's client id and secret come from RD_IMPORT_CLIENT_ID and RD_IMPORT_CLIENT_SECRET; the secret is asked for
    where it is not set. The app's callback address must be http://localhost:8766/callback.
    """
    from rd_import.auth import FileStore, keep_login, token_store
    from rd_import.login import CALLBACK_PATH, Callback, Errand
    from rd_import.run_folder import tokens_path

    client_id = os.environ.get("RD_IMPORT_CLIENT_ID", "").strip()
    address = f"http://localhost:{port}{CALLBACK_PATH}"
    if not client_id:
        raise JobError("login_app", missing="RD_IMPORT_CLIENT_ID", callback=address)
    secret = os.environ.get("RD_IMPORT_CLIENT_SECRET", "").strip() or getpass.getpass(
        messages.say("login.secret")
    )
    empty = Account.unproven(base_url=given["base_url"], label=given["label"])
    account = replace(empty, client_id=client_id, client_secret=secret)
    listening = None if paste else Callback(port)
    callback = listening.address if listening else address
    errand = Errand(account.base_url, client_id, callback)
    say(messages.say("login.open", address=errand.address))
    if listening is not None:
        if not no_browser:
            webbrowser.open(errand.address)
        say(messages.say("login.waiting", callback=callback))
        code = listening.wait(errand)
    else:
        pasted = ask.answer_to(ask.open_terminal(), messages.say("login.paste"))
        code = errand.code_of(pasted, pasted=True)
    store = token_store(tokens_path(), warn=False)
    keep_login(store, account, code)
    place = messages.say("login.keyring")
    if isinstance(store, FileStore):
        place = str(tokens_path())
        say(messages.say("login.in_file", path=place))
    if given["as_json"]:
        print_json(account=account.label, base_url=account.base_url)
    else:
        click.echo(messages.say("login.done", label=account.label, place=place))


@click.command()
@with_options(*ACCOUNT, *OUTPUT)
def logout(**given: Any) -> None:
    """Forget the tokens of an account on this machine."""
    from rd_import.auth import forget_login, token_store
    from rd_import.run_folder import tokens_path

    account = Account.unproven(base_url=given["base_url"], label=given["label"])
    forgotten = forget_login(token_store(tokens_path(), warn=False), account)
    if given["as_json"]:
        print_json(account=account.label, forgotten=forgotten)
        return
    click.echo(messages.say("login.out" if forgotten else "login.nobody", label=account.label))
    if forgotten:
        say(messages.say("login.out_note"))


@click.command()
@click.argument("email", metavar="EMAIL")
@with_options(LEDGER, *ACCOUNT, *OUTPUT)
def probe(email: str, **given: Any) -> None:
    """Find out on your own test contact EMAIL what the API's pages leave open, and remember it for the account."""
    configure_logging(verbose=given["verbose"])
    from rd_import.importer import open_session
    from rd_import.probe import run_probe

    with open_session(delivery_of(given), watcher_of(given, None)) as session:
        agrees = partial(ask.agrees, ask.open_terminal())
        facts = run_probe(
            session.service, session.ledger, session.number, email, ask=agrees, say=say
        )
    if given["as_json"]:
        print_json(**facts)
