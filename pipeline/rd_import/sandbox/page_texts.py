"""The texts of the sandbox's pages: English, which the catalogue turns into the language in use."""

from collections.abc import Mapping
from typing import Final

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
    "nothing_yet": "Nothing arrived yet.",
    "no_refusals": "Nothing was refused.",
    "allow_title": "Allow the app?",
    "allow_about": "A practice server; nothing here reaches RD Station.",
    "allow": "Allow",
    "decline": "Decline",
}
"""Key → what a page says; what stands in an answer to a request is in the API's own English."""
