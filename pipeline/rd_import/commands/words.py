"""Words on the command line -> a job, and a job -> the words that ask for it."""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rd_import.catalogue import translate
from rd_import.errors import AccountError, JobError
from rd_import.job import Account, Delivery, Job, Threshold
from rd_import.key_line import Policy
from rd_import.names import near_types
from rdstation_events import CURRENT_TYPES, REMOVED_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rd_import.mapping_file import Mapping
    from rd_import.preview import Preview

NOT_REPEATED = {"yes", "as_json", "verbose", "audit_path"}
"""What belongs to one run, and into no command that is proposed."""


def job_of(given: dict[str, Any]) -> Job:
    """Give the job that the words of an import ask for.

    Raises:
        JobError: They do not fit together.
    """
    if not given["files"]:
        raise JobError("no_exports")
    _refuse_mistyped_command(given["files"][0])
    asked = (given["event_type"] or "").upper()
    if asked and asked not in {*CURRENT_TYPES, *REMOVED_TYPES}:
        raise JobError("unknown_type", name=given["event_type"], near=near_types(asked))
    mapping = _mapping(given["map_path"])
    by_column = given["type_by"] or (mapping.type_by and mapping.type_by.column)
    if asked and by_column:
        raise JobError("type_twice", given=asked, said=by_column)
    if asked and mapping.event_type not in {None, asked}:
        raise JobError("type_twice", given=asked, said=mapping.event_type)
    delimiter = given["delimiter"]
    return Job(
        exports=tuple(given["files"]),
        event_type=asked,
        mapping=mapping,
        type_by=given["type_by"],
        lookups=given["lookup"],
        suppress=given["suppress"],
        renames=_pairs(
            given["rename"], "--rename", "FIELD=COLUMN", "--rename identifier=order_number"
        ),
        constants=_pairs(given["constants"], "--set", "FIELD=VALUE", "--set currency=BRL"),
        encoding=given["encoding"],
        delimiter="\t" if delimiter in {"\\t", "tab"} else delimiter,
        header=given["header"],
        decimal=given["decimal"],
        dates=given["dates"],
        timezone=given["timezone"],
        run_dir=given["run_dir"],
        max_body=given["max_body"],
        max_invalid=Threshold.parse(given["max_invalid"]),
        min_rows=given["min_rows"],
        key=given["key"],
        past=given["past"],
        repeats=given["repeats"],
        max_age_days=given["max_age"],
        **_how(given),
    )


def _refuse_mistyped_command(word: str) -> None:
    """Refuse what is no file and nearly a command, which would be taken for a file's name."""
    root = click.get_current_context().find_root().command
    if "." in word or Path(word).exists() or not isinstance(root, click.Group):
        return
    if near := difflib.get_close_matches(word, list(root.commands), n=1, cutoff=0.7):
        raise JobError("no_such_command", given=word, near=near[0])


def _mapping(named: str | None) -> Mapping:
    """Read a mapping file, or take the preset of that name."""
    from rd_import.mapping_file import Mapping, read_mapping
    from rd_import.presets import preset_named

    if named is None:
        return Mapping()
    path = Path(named)
    preset = None if path.exists() else preset_named(named)
    return preset.mapping if preset is not None else read_mapping(path)


def _pairs(words: tuple[str, ...], option: str, form: str, example: str) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise JobError(
                "bad_pair", option=option, value=word, form=translate(form), example=example
            )
        pairs[name.strip()] = value
    return pairs


def account_of(given: dict[str, Any]) -> Account:
    """Give the account of the environment, else the one that somebody logged in to."""
    try:
        return Account.from_env(base_url=given["base_url"], label=given["label"])
    except AccountError as error:
        if error.key != "no_credentials":
            raise
        from rd_import.auth import login_of, token_store
        from rd_import.run_folder import tokens_path

        account = Account.unproven(base_url=given["base_url"], label=given["label"])
        kept = login_of(token_store(tokens_path(), warn=False), account)
        if kept is None:
            raise
        return kept


def delivery_of(given: dict[str, Any]) -> Delivery:
    """Give how, and from which account, a run that is there is sent."""
    return Delivery(account=account_of(given), **_how(given))


def _how(given: dict[str, Any]) -> dict[str, Any]:
    """Give the fields of `Delivery` but the account, which `check` does without."""
    policy = Policy(
        resend_unknown=given.get("on_unknown") == "resend",
        send_changed=given.get("changed") == "send",
    )
    how = {
        "ledger": given["ledger"],
        "audit_path": given.get("audit_path"),
        "policy": policy,
        "plan": given.get("plan"),
        "rate": given.get("rate"),
    }
    if "max_unknown" in given:
        how["max_unknown"] = given["max_unknown"]
        how["max_refused"] = Threshold.parse(given["max_refused"])
        how["timeout_s"] = given["timeout"]
    return how


def as_command(command: click.Command, given: dict[str, Any], **changed: object) -> str:
    """Write the words of an import as it was asked for, with these parameters changed."""
    asked = {**given, **changed}
    return shlex.join(["rd-import", *asked["files"], *_options(command, asked)])


def words_of(command: click.Command, given: dict[str, Any]) -> tuple[str, ...]:
    """Give the options that shaped an import, for a command that imports what was mended of it later on.

    Where the ledger is, and which account, belong to each command; an address may hold a password.
    """
    return tuple(_options(command, {**given, "ledger": None, "label": None, "base_url": None}))


def answers_to(shown: Preview, given: dict[str, Any]) -> dict[str, str]:
    """Answer what is open so that it cannot reach anybody by mistake."""
    events = {"past": shown.past, "repeats": shown.repeats}
    return {question: "skip" for question, count in events.items() if count and not given[question]}


def _options(command: click.Command, asked: dict[str, Any]) -> list[str]:
    words: list[str] = []
    context = click.Context(command)
    for one in command.params:
        value = asked.get(one.name or "")
        left_out = one.name in NOT_REPEATED or value in (None, (), one.get_default(context))
        if left_out or not isinstance(one, click.Option):
            continue
        option = next(word for word in one.opts if word.startswith("--"))
        if isinstance(value, bool):
            words += [option] if value else one.secondary_opts
        else:
            for each in value if isinstance(value, tuple) else (value,):
                words += [option, f"{each:g}" if isinstance(each, float) else str(each)]
    return words


def as_named(run: object, given: dict[str, Any]) -> str:
    """Write a run as the next command must name it: with the ledger and the account that this one was given."""
    return shlex.join([str(run), *_where(given)])


def mend_command(path: Path, words: Sequence[str], given: dict[str, Any]) -> str:
    """Write the command that imports the mended rows of a run that was asked for with these words."""
    return shlex.join(["rd-import", str(path), *words, *_where(given)])


def _where(given: dict[str, Any]) -> list[str]:
    words = []
    for option, name in (
        ("--ledger", "ledger"),
        ("--account", "label"),
        ("--base-url", "base_url"),
    ):
        words += [option, str(given[name])] if given[name] else []
    return words
