"""The practice server: `sandbox`, and an import that brings its own."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from rd_import import messages
from rd_import.commands.options import LANG, PORT
from rd_import.commands.screen import say
from rd_import.errors import JobError
from rd_import.job import Account, Job


@click.command()
@LANG
@click.option(
    "--port",
    type=PORT,
    default=8765,
    show_default=True,
    metavar="N",
    help="0 takes any free port.",
)
@click.option(
    "--scenario",
    metavar="NAME|FILE.toml",
    help="Name or TOML file of how the server behaves, such as quota-then-recovers.",
)
def sandbox(port: int, scenario: str | None) -> None:
    """Start a small, strict RD Station on this machine to practise on; Ctrl-C ends it."""
    from rd_import.sandbox import Sandbox, Scenario

    if scenario and re.fullmatch("[a-z0-9-]+", scenario) and scenario not in Scenario.names():
        raise JobError("no_such_scenario", name=scenario, known=", ".join(Scenario.names()))
    try:
        behaviour = Scenario.load(scenario).behaviour if scenario else None
        server = Sandbox(port=port, behaviour=behaviour)
    except ValueError as error:
        raise JobError("bad_scenario", reason=error) from error
    except OSError as error:
        raise JobError("port_taken", port=port, reason=error.strerror or str(error)) from error
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: server.stop())
    click.echo(f"export RD_IMPORT_BASE_URL={server.url}")
    click.echo(f"export RD_IMPORT_TOKEN={server.token}")
    say(messages.say("sandbox.listens", url=server.url))
    sys.stdout.flush()
    server.serve_forever()


def in_sandbox(job: Job, given: dict[str, Any], stack: contextlib.ExitStack) -> Job:
    """Start a practice server, and keep ledger and run folder only as long as it runs."""
    from tempfile import TemporaryDirectory

    from rd_import.sandbox import Sandbox

    folder = Path(stack.enter_context(TemporaryDirectory(prefix="rd-import-")))
    server = stack.enter_context(Sandbox())
    account = Account(token=server.token, base_url=server.url, label=given["label"] or "sandbox")
    return replace(
        job,
        account=account,
        ledger=job.ledger or folder / "ledger.db",
        run_dir=job.run_dir or folder / "runs",
    )
