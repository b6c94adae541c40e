"""The texts of the sandbox's pages and of scenarios: English, which the catalogue turns into the language in use."""

from collections.abc import Mapping
from typing import Any, Final

from rd_import.catalogue import fill, translate

PAGE: Final[Mapping[str, str]] = {
    "about": (
        "A practice server on this machine. Nothing that arrives here reaches RD Station, and all of it is gone "
        "when the server stops."
    ),
    "instance": "Instance {instance}; times are UTC.",
    "reload": "Everything, reloaded",
    "accepted": "events accepted",
    "requests": "requests",
    "rate": "requests this minute (an account has 120, Advanced 500)",
    "rate_of": "{used:n} of {limit:n}",
    "refused": "requests refused",
    "limited": "of them for a limit (429)",
    "by_type": "Events by type",
    "refusals": "Refused or disturbed, and why",
    "newest_first": "newest first",
    "time": "Time",
    "answer": "Answer",
    "no_answer": "none",
    "events": "Events",
    "why": "Why",
    "fault": "fault: {fault}",
    "shown_newest": "the newest {count:n}",
    "shown_found": "{count:n} found",
    "shown_all": "all {count:n}",
    "type": "Type",
    "any_type": "any",
    "contact": "Contact",
    "part": "part of an e-mail",
    "show": "Show",
    "event": "Event",
    "place": "number {index:n} of batch",
    "no_events": "No events.",
    "nothing_yet": (
        "Nothing arrived yet: put the two lines that the sandbox printed into another terminal, and import there."
    ),
    "no_refusals": "Nothing was refused.",
    "allow_title": "Allow the app?",
    "allow_about": "A practice server; nothing here reaches RD Station.",
    "allow": "Allow",
    "decline": "Decline",
}
"""Key → what a page says; what stands in an answer to a request is in the API's own English."""

SCENARIO: Final[Mapping[str, str]] = {
    "unreadable": "{path}: {reason}",
    "no_scenario": "there is no scenario {name}; there are {names}, or give the path of a file",
    "no_toml": "{path} is not TOML: {reason}",
    "no_table_known": "{path}: [{key}] is not known; known are {names}",
    "must_be_table": "{path}: {key} must be a table",
    "server": "{path}: [server] {fault}",
    "one_chooser": "exactly one of {names} must be given",
    "goes_with": "{name} goes with {needed}",
    "takes_no": "a fault of kind '{kind}' takes no {names}",
    "needs_status": "a fault of kind 'status' needs a status",
    "kind_missing": "kind is missing; it must be {wants}",
    "written_as": "fault must be written as [[server.fault]]",
    "fault_number": "fault number {number}: {fault}",
    "not_known": "{name} is not known; known are {names}",
    "must_be": "{name} must be {wants}, not {value}",
    "one_of": "one of {names}",
    "whole_from": "a whole number from {low}",
    "whole_between": "a whole number from {low} to {high}",
    "number_from": "a number from {low}",
    "number_between": "a number from {low} to {high}",
    "texts": "a list of texts",
    "faults": "a list of faults",
    "wholes": "a list of whole numbers from 1",
    "yes_or_no": "true or false",
    "text": "a text",
}
"""Key → what is wrong with a scenario, or what a switch must be."""


class Said:
    """A text of `SCENARIO` with its facts, put into the language in use when it is read."""

    def __init__(self, key: str, /, **facts: Any) -> None:
        self.key = key
        self.facts = facts

    def __str__(self) -> str:
        facts = {name: str(fact) for name, fact in self.facts.items()}
        return fill(translate(SCENARIO[self.key]), facts)


class ScenarioError(ValueError):
    """A scenario, or a switch of it, says what the sandbox does not know."""

    def __init__(self, key: str, /, **facts: Any) -> None:
        super().__init__(Said(key, **facts))
