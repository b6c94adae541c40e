"""rd-import: bulk import of events into RD Station Marketing, every row accounted for, none sent twice.

Exports are read, their columns matched, rows gathered into events, validated, mapped, encoded and kept in a run folder;
`check` computes the preview from it, `run` sends exactly that and writes the audit.

    import rd_import as rd

    job = rd.Job(exports=orders, event_type="ECOMMERCE_ORDER_PLACED")
    print(rd.check(job).problems)
    result = rd.run(job)
    audit = rd.read_audit(result.audit_path)

The names below are the whole of what other programs may use. They are imported when they are first touched.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rd_import.audit_file import read_audit
    from rd_import.bookkeeping import add_audits, check_ledger, runs
    from rd_import.errors import (
        AccountError,
        ExportError,
        JobError,
        LedgerError,
        NothingSent,
        RdImportError,
        ServiceError,
    )
    from rd_import.guide import schema
    from rd_import.importer import check, resolve, resume, run
    from rd_import.job import Account, Delivery, Job, Threshold
    from rd_import.key_line import Policy
    from rd_import.preview import Preview
    from rd_import.report import write_report
    from rd_import.values import RunResult
    from rd_import.watcher import Watcher

_MODULES: Final = {
    "audit_file": ("read_audit",),
    "bookkeeping": ("add_audits", "check_ledger", "runs"),
    "errors": (
        "AccountError",
        "ExportError",
        "JobError",
        "LedgerError",
        "NothingSent",
        "RdImportError",
        "ServiceError",
    ),
    "guide": ("schema",),
    "importer": ("check", "resolve", "resume", "run"),
    "job": ("Account", "Delivery", "Job", "Threshold"),
    "key_line": ("Policy",),
    "preview": ("Preview",),
    "report": ("write_report",),
    "values": ("RunResult",),
    "watcher": ("Watcher",),
}

__all__ = [
    "Account",
    "AccountError",
    "Delivery",
    "ExportError",
    "Job",
    "JobError",
    "LedgerError",
    "NothingSent",
    "Policy",
    "Preview",
    "RdImportError",
    "RunResult",
    "ServiceError",
    "Threshold",
    "Watcher",
    "add_audits",
    "check",
    "check_ledger",
    "read_audit",
    "resolve",
    "resume",
    "run",
    "runs",
    "schema",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    for module, names in _MODULES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return __all__
