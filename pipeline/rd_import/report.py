"""Audit -> one HTML page that explains it: no outside resource, no contact, nothing that is not in the audit.

The page is small at any size of audit: causes and requests are summed, states of rows are runs of equal states, and
single rows are listed up to a bound that the page names.
"""

import base64
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from rd_import import messages
from rd_import.audit_file import NO_AUDIT
from rd_import.catalogue import language, moment, number
from rd_import.errors import ExportError, JobError
from rd_import.messages import say
from rd_import.nesting import read_json
from rd_import.places import new_file, put_in_place, temporary_of

if TYPE_CHECKING:
    from markupsafe import Markup

RECEIVED: Final = ("accepted", "already_accepted")
EXPLAINED: Final = ("unknown", "refused", "invalid", "changed", "deferred", "not_sent", "filtered")
MOST_CAUSES: Final = 50
FIRST_ROWS: Final = 5
UNKNOWN_SHOWN: Final = 10
BARS: Final = 60
WIDEST_BAR: Final = 8  # of 100; a wider one looks like a filled area
MOST_INDEX_BYTES: Final = 1_300_000  # of a page of 2 MB; the rest of it takes under 100 kB
MOST_RUNS_BYTES: Final = 400_000  # of these
ROWS_AT_ONCE: Final = 8_192  # of the audit, in memory
EVERY_ID_UP_TO: Final = 20_000  # rows; above that, ids of accepted rows stay out
OUTCOMES: Final = ("accepted", "limited", "refused", "unknown")
_COLUMNS: Final = (
    "source_file",
    "row_number",
    "line_number",
    "state",
    "proof",
    "event_key",
    "contact",
    "identifier",
    "event_uuid",
    "error_code",
    "error_column",
    "error_message",
    "hint",
    "not_before",
    "resolved_as",
)


PLACE_IN_BODY: Final = re.compile(r"^\$(\.body)?(\[\d+\])?\.?")
"""How an error of the API begins to name a field: by where the event stood in its request."""


@dataclass(slots=True)
class Cause:
    """Rows of one state, code and column: how many, an example of what is said of them, and where the first stand."""

    state: str
    column: str | None
    what: str
    hint: str | None
    rows: int = 0
    first: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Findings:
    """What one pass over an audit gathers."""

    files: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    keys: dict[str, list[np.ndarray]] = field(default_factory=dict)
    uuids: list[np.ndarray] = field(default_factory=list)
    causes: dict[tuple[str, str | None, str | None], Cause] = field(default_factory=dict)
    unknown: list[dict[str, Any]] = field(default_factory=list)
    decided: int = 0
    not_before: datetime | None = None
    index: "_Index | None" = None


def report_path(audit: Path) -> Path:
    """Name the report that stands beside an audit."""
    stem = audit.name.removesuffix(".parquet").removesuffix(".audit")
    return audit.with_name(f"{stem}.report.html")


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written, and why rows were not received, the most frequent first."""

    path: Path
    causes: tuple[Cause, ...]


def write_report(audit: Path) -> Report:
    """Write the report of an audit beside it, for its owner alone.

    Raises:
        ExportError: It is no audit of ours.
        JobError: The report cannot be written.
    """
    page, causes = _rendered(audit)
    path = report_path(audit)
    temporary = temporary_of(path)
    try:
        with new_file(temporary) as file:
            file.write(page.encode())
        put_in_place(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise JobError("cannot_write_report", path=path, reason=reason) from error
    return Report(path, causes)


def _rendered(audit: Path) -> tuple[str, tuple[Cause, ...]]:
    """Give the page of an audit, in the language in use, and its causes."""
    import jinja2

    try:
        with audit.open("rb") as source, pq.ParquetFile(source, pre_buffer=False) as file:
            facts = {k.decode(): v.decode() for k, v in (file.metadata.metadata or {}).items()}
            if "rd_import.run" not in facts or "state" not in file.schema_arrow.names:
                raise ExportError("not_an_audit", path=audit)
            found = _gathered(file)
            shown = _facts_of_page(audit, facts, found)
    except NO_AUDIT as error:
        raise ExportError("not_an_audit", path=audit) from error
    folder = Path(__file__).parent
    page = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html")
    style, script = ((folder / name).read_text("utf-8") for name in ("report.css", "report.js"))
    causes = tuple(sorted(found.causes.values(), key=lambda one: -one.rows))
    html = page.render(
        shown,
        causes=causes[:MOST_CAUSES],
        say=say,
        number=number,
        moment=moment,
        state_text=messages.state,
        marked=_marked,
        style=style,
        script=script,
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
    )
    return html, causes


def _marked(text: str) -> "Markup":
    """Set what stands in backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 -- escaped


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# --- one pass over the audit


def _gathered(file: pq.ParquetFile) -> _Findings:
    found = _Findings()
    found.index = _Index(every_id=file.metadata.num_rows <= EVERY_ID_UP_TO)
    for batch in file.iter_batches(columns=list(_COLUMNS), batch_size=ROWS_AT_ONCE):
        batch.validate(full=True)  # polars trusts its input, down to the UTF-8
        rows = pl.DataFrame(pl.from_arrow(batch))
        _count(rows, found)
        explained = rows.filter(pl.col("state").is_in(EXPLAINED))
        if explained.height:
            _add_causes(explained, found)
        found.index.add(rows)
    return found


def _count(rows: pl.DataFrame, found: _Findings) -> None:
    for counter, column in ((found.files, "source_file"), (found.rows, "state")):
        counter.update(dict(rows[column].value_counts().iter_rows()))
    keyed = rows.filter(pl.col("event_key").is_not_null())
    for (state,), part in keyed.group_by("state"):
        hashes = part["event_key"].hash().unique().to_numpy()
        found.keys.setdefault(str(state), []).append(hashes)
    accepted = keyed.filter(pl.col("state") == "accepted")
    found.uuids.append(accepted["event_uuid"].drop_nulls().hash().unique().to_numpy())
    found.decided += rows.filter(
        pl.col("state") == "unknown", pl.col("resolved_as").is_not_null()
    ).height
    soonest = rows["not_before"].min()
    if isinstance(soonest, datetime):
        found.not_before = min(found.not_before or soonest, soonest)


def _add_causes(rows: pl.DataFrame, found: _Findings) -> None:
    grouped = rows.group_by("state", "error_code", "error_column", maintain_order=True).agg(
        pl.len().alias("rows"),
        pl.struct("source_file", "row_number", "line_number").head(FIRST_ROWS).alias("first"),
        pl.col("error_message", "proof", "hint").first(),
    )
    for one in grouped.iter_rows(named=True):
        column = one["error_column"] and messages.fed_by(one["error_column"])
        if column and one["state"] == "refused":
            column = PLACE_IN_BODY.sub("", column) or None
        key = (one["state"], one["error_code"], column)
        what = one["error_message"] or messages.proof(one["proof"] or "")
        cause = found.causes.setdefault(key, Cause(one["state"], column, what, one["hint"]))
        cause.rows += one["rows"]
        places = [messages.place(*row.values()) for row in one["first"]]
        cause.first += places[: FIRST_ROWS - len(cause.first)]
    wanted = UNKNOWN_SHOWN - len(found.unknown)
    if wanted > 0:
        shown = rows.filter(pl.col("state") == "unknown").head(wanted)
        found.unknown += [
            {
                **row,
                "place": messages.place(row["source_file"], row["row_number"], row["line_number"]),
            }
            for row in shown.select(
                "source_file", "row_number", "line_number", "identifier", "contact"
            ).iter_rows(named=True)
        ]


class _Index:
    """What the search of the page looks in: runs of rows of one state, and single rows with their ids.

    A run is [file, first row, rows, state]; a row is [file, row, line, state, id, cause], the last two being positions
    in lists, or null. Both are bounded in bytes; `complete` tells whether the bound cut the runs.
    """

    def __init__(self, *, every_id: bool) -> None:
        self.every_id = every_id
        self.files: list[str] = []
        self.states: list[str] = []
        self.causes: list[str] = []
        self.runs: list[list[Any]] = []
        self.rows: list[list[Any]] = []
        self.indexed_rows = 0
        self.complete = True
        self._bytes = 0
        self._run_bytes = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Take in a group of rows."""
        if self.complete:
            self._add_runs(rows)
        listed = rows if self.every_id else rows.filter(~pl.col("state").is_in(RECEIVED))
        for row in listed.select(
            "source_file",
            "row_number",
            "line_number",
            "state",
            "identifier",
            "error_message",
            "proof",
        ).iter_rows():
            if self._bytes > MOST_INDEX_BYTES - MOST_RUNS_BYTES:
                self.every_id = False
                return
            self._add_row(row)

    def _add_runs(self, rows: pl.DataFrame) -> None:
        starts = (
            (pl.col("state") != pl.col("state").shift())
            | (pl.col("source_file") != pl.col("source_file").shift())
            | (pl.col("row_number") != pl.col("row_number").shift() + 1)
        ).fill_null(value=True)
        runs = (
            rows.with_columns(starts.cum_sum().alias("run"))
            .group_by("run", maintain_order=True)
            .agg(pl.col("source_file", "row_number", "state").first(), pl.len().alias("rows"))
        )
        for path, first, count, state in runs.select(
            "source_file", "row_number", "rows", "state"
        ).iter_rows():
            at, kind = (
                _position(self.files, messages.file_name(path)),
                _position(self.states, state),
            )
            last = self.runs[-1] if self.runs else None
            if last and (last[0], last[3]) == (at, kind) and last[1] + last[2] == first:
                last[2] += count
            elif self._run_bytes > MOST_RUNS_BYTES:
                self.complete = False
                return
            else:
                self.runs.append([at, first, count, kind])
                self._run_bytes += len(f"[{at},{first},{count},{kind}],")
            self.indexed_rows += count

    def _add_row(self, row: tuple[Any, ...]) -> None:
        path, number_in_file, line, state, identifier, message, proof = row
        cause = None if state in RECEIVED else (message or messages.proof(proof or ""))
        before = len(self.causes)
        entry = [
            _position(self.files, messages.file_name(path)),
            number_in_file,
            line,
            _position(self.states, state),
            identifier,
            None if cause is None else self._cause(cause),
        ]
        self.rows.append(entry)
        self._bytes += len(json.dumps(entry)) + 1
        if len(self.causes) > before:
            self._bytes += len(json.dumps(self.causes[-1])) + 1

    def _cause(self, text: str) -> int:
        if len(self.causes) >= 1000:  # messages that name rows differ in each of them
            return 0
        return _position(self.causes, text)


def _position(names: list[str], name: str) -> int:
    try:
        return names.index(name)
    except ValueError:
        names.append(name)
        return len(names) - 1


# --- what the page shows


def _facts_of_page(audit: Path, facts: Mapping[str, str], found: _Findings) -> dict[str, Any]:
    run = read_json(facts["rd_import.run"])
    requests = read_json(facts.get("rd_import.requests", "[]"))
    assert found.index is not None  # set before the first row
    events = {state: _distinct(hashes) for state, hashes in found.keys.items()}
    total = sum(found.rows.values())
    states = [state for state in messages.STATES if found.rows[state]]
    practice = facts.get("rd_import.scope", "").startswith("sandbox ")
    return {
        "lang": language(),
        "run": run["run_id"],
        "event_types": ", ".join(run.get("event_types") or [run["event_type"]]),
        "scope": facts.get("rd_import.scope") or "-",
        "practice": practice,
        "audit": audit.name,
        "files": [
            say("report.file", count=count, path=messages.file_name(path))
            for path, count in found.files.items()
        ],
        "verdict": list(_verdict(found.rows, total, practice=practice)),
        "good": total > 0 and sum(found.rows[state] for state in RECEIVED) == total,
        "doubt": bool(found.rows["unknown"] - found.decided),
        "states": [(state, found.rows[state], events.get(state, 0)) for state in states],
        "total": total,
        "total_events": sum(events.values()),
        "checks": list(_checks(found, run, requests, total, events.get("accepted", 0))),
        "more_causes": max(0, len(found.causes) - MOST_CAUSES),
        "rejected": [(quote(path.name), path.name) for path in _rejected_beside(audit)],
        "unknown_rows": found.rows["unknown"],
        "unknown": found.unknown,
        "decided": found.decided,
        "left": {state: found.rows[state] for state in ("not_sent", "deferred", "changed")},
        "not_before": found.not_before,
        "timeline": _timeline(requests),
        "started": _started(run, requests, audit),
        "search_note": _search_note(found.index, total),
        "index": _index_json(found.index),
    }


def _started(run: Mapping[str, Any], requests: list[dict[str, Any]], audit: Path) -> datetime:
    if requests:
        return datetime.fromisoformat(requests[0]["sent_at"])
    if run.get("started_at"):
        return datetime.fromisoformat(run["started_at"])
    return datetime.fromtimestamp(audit.stat().st_mtime, UTC)


def _verdict(rows: Counter[str], total: int, *, practice: bool) -> Iterator[str]:
    good = sum(rows[state] for state in RECEIVED)
    who = say("report.practice_server" if practice else "report.rd_station")
    if total == 0:
        yield say("report.empty")
    elif good == total:
        yield say("report.all", count=total, who=who)
    elif good == 0:
        yield say("report.none", count=total)
    else:
        yield say("report.some", count=total, good=good, who=who)
    if rows["unknown"]:
        yield say("report.doubt", count=rows["unknown"])


def _checks(
    found: _Findings,
    run: Mapping[str, Any],
    requests: list[dict[str, Any]],
    total: int,
    accepted: int,
) -> Iterator[tuple[str, bool]]:
    """Give each sum that must hold, and whether it does."""
    read = sum(int(export["rows"]) for export in run.get("exports", []))
    yield say("report.check_rows", count=read, sum=total), read == total
    if accepted:
        uuids = _distinct(found.uuids)
        yield say("report.check_uuids", count=accepted, uuids=uuids), uuids == accepted
        sent = sum(one["events"] for one in requests if one["outcome"] == "accepted")
        yield say("report.check_requests", count=accepted, sum=sent), sent == accepted


def _distinct(hashes: list[np.ndarray]) -> int:
    """Count different hashes, in the memory of two copies; the list is used up."""
    if not hashes:
        return 0
    every = np.concatenate(hashes)
    hashes.clear()
    every.sort()
    return int(np.count_nonzero(every[1:] != every[:-1])) + bool(every.size)


def _rejected_beside(audit: Path) -> list[Path]:
    stem = audit.name.removesuffix(".parquet").removesuffix(".audit")
    found = [path for path in audit.parent.iterdir() if path.name.endswith(".rejected.csv")]
    middles = {path: path.name.removeprefix(stem).removesuffix("rejected.csv") for path in found}
    mine = [
        path
        for path, middle in middles.items()
        if path.name.startswith(stem) and (middle == "." or middle.strip(".").isdigit())
    ]
    return sorted(mine)


def _search_note(index: _Index, total: int) -> str:
    if index.every_id:
        return say("report.search_all")
    if index.complete:
        return say("report.search_some", count=len(index.rows))
    return say("report.search_cut", count=len(index.rows), rows=min(index.indexed_rows, total))


def _index_json(index: _Index) -> str:
    """Write what the script looks in; `<` is escaped, so that no cell can end the element."""
    words = ("search_found", "search_many", "search_none", "search_not_listed", "row", "line")
    facts = {
        "files": index.files,
        "states": [[state, messages.state(state)] for state in index.states],
        "causes": index.causes,
        "runs": index.runs,
        "rows": index.rows,
        "everyId": index.every_id,
        "say": {name: messages.pattern(f"report.{name}") for name in words},
    }
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


# --- requests over time


@dataclass(frozen=True, slots=True)
class _Bar:
    """Requests of one span of time, by outcome, and where its parts stand in a picture of 100 by 100."""

    start: datetime
    counts: Mapping[str, int]
    x: float
    width: float
    parts: tuple[tuple[str, float, float], ...]  # outcome, top, height

    @property
    def total(self) -> int:
        return sum(self.counts.values())


_STEPS_S: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400)


def _timeline(requests: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Sum requests up in at most `BARS` equal spans of time."""
    if not requests:
        return None
    times = [datetime.fromisoformat(one["sent_at"]) for one in requests]
    first, last = min(times), max(times)
    seconds = (last - first).total_seconds()
    step = next((one for one in _STEPS_S if seconds / one < BARS), math.ceil(seconds / BARS))
    bars: list[Counter[str]] = [Counter() for _ in range(int(seconds // step) + 1)]
    for one, time in zip(requests, times, strict=True):
        bars[int((time - first).total_seconds() // step)][_outcome(one)] += 1
    most = max(sum(bar.values()) for bar in bars)
    width = 100 / len(bars)
    shown = [
        _Bar(
            first + timedelta(seconds=step * at),
            counts,
            round(at * width, 3),
            round(min(width * 0.9, WIDEST_BAR), 3),
            tuple(_parts(counts, most)),
        )
        for at, counts in enumerate(bars)
    ]
    limited = sum(counts["limited"] for counts in bars)
    text = say(
        "report.timeline_text", count=len(requests), most=most, span=_span(step), limited=limited
    )
    return {
        "text": text,
        "bars": shown,
        "first": first,
        "last": max((_time(one["answered_at"]) or last for one in requests), default=last),
        "outcomes": [one for one in OUTCOMES if any(bar.counts[one] for bar in shown)],
    }


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _outcome(request: Mapping[str, Any]) -> str:
    if request["outcome"] == "accepted":
        return "accepted"
    if request["http_status"] == 429:
        return "limited"
    status = request["http_status"]
    return "refused" if status is not None and 400 <= status < 500 else "unknown"


def _parts(counts: Mapping[str, int], most: int) -> Iterator[tuple[str, float, float]]:
    top = 100.0
    for outcome in OUTCOMES:
        if counts.get(outcome):
            height = 100 * counts[outcome] / most
            top -= height
            yield outcome, round(top, 3), round(height, 3)


def _span(seconds: int) -> str:
    if seconds < 60:
        return say("report.span_seconds", count=seconds)
    if seconds < 3600:
        return say("report.span_minutes", count=seconds // 60)
    return say("report.span_hours", count=seconds // 3600)
