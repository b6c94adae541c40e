"""Every exception, grouped by what its reader does next.

    RdImportError
    ├── JobError       exit 2: change the command
    ├── ExportError    exit 2: mend the file
    ├── AccountError   exit 4: authorise, or ask for the plan or the permission
    ├── ServiceError   exit 1: run again, it goes on where it stopped
    ├── LedgerError    exit 1: the record on disk cannot be trusted or written; keep the file
    └── NothingSent    exit 7: only a person can decide; nothing was sent

A flaw of a row is not an exception but a value (`values.Sifted`), and the run goes on.
"""

from typing import ClassVar

from rd_import import messages


class RdImportError(Exception):
    """Stop a run, with a sentence for the person who must act.

    Args:
        key: The sentence in `messages.ERRORS`.
        facts: What the sentence names: paths, columns, values.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, key: str, /, **facts: object) -> None:
        super().__init__(key, facts)
        self.key = key
        self.facts = facts

    def __str__(self) -> str:
        what, hint = messages.error(self.key, self.facts)
        return messages.with_hint(what, hint)


class JobError(RdImportError):
    """The command cannot be done as asked."""

    exit_code = 2


class ExportError(RdImportError):
    """A file cannot be read as it is."""

    exit_code = 2


class AccountError(RdImportError):
    """RD Station refuses the account, or nothing identifies it."""

    exit_code = 4


class ServiceError(RdImportError):
    """RD Station cannot be reached or gives no usable answer."""

    exit_code = 1


class LedgerError(RdImportError):
    """The record on disk cannot be read, written or trusted."""

    exit_code = 1


class NothingSent(RdImportError):  # noqa: N818 -- a decision that is missing, not a fault
    """A question is open that only a person can answer, so nothing was sent."""

    exit_code = 7
