"""What the first half says of a run, for `run.json`."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping as Map
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rd_import.draft import text_of
from rd_import.export import Export
from rd_import.job import Job
from rd_import.learn import Learnt
from rd_import.mapping_file import Preset
from rd_import.matching import Matching
from rd_import.plan import Decisions
from rd_import.presets import fitting
from rd_import.run_folder import FolderWriter, RunFolder
from rd_import.settle import Plan
from rd_import.values import EVENT, LEFT_OUT, ROW, RowGroup
from rdstation_events.event_type import EventType


class Counts:
    """What the first half learns on its way, for `run.json`."""

    def __init__(self) -> None:
        self.event_ordinals = 0
        self.legal_bases: Counter[str] = Counter()

    def add_ordinals(self, group: RowGroup) -> None:
        """Count the events, invalid ones included."""
        highest = group.table[EVENT].max()
        if isinstance(highest, int):
            self.event_ordinals = max(self.event_ordinals, highest + 1)

    def add_legal_bases(self, valid: RowGroup) -> None:
        """Count the legal bases of events, by category and status."""
        bases = [
            name
            for name in valid.table.columns
            if name.startswith("legal_bases.") and name.endswith(".type")
        ]
        if bases:
            once = valid.table.unique(EVENT, keep="first")
            for name in bases:
                status = f"{name.removesuffix('type')}status"
                given = once.filter(pl.col(name).is_not_null())
                statuses = (
                    given[status].fill_null("granted")
                    if status in given.columns
                    else ["granted"] * given.height
                )
                self.legal_bases.update(f"{name.split('.')[1]} {one}" for one in statuses)


def run_facts(
    job: Job,
    plan: Plan,
    learnt: Learnt,
    writer: FolderWriter,
    counts: Counts,
    now: datetime,
) -> dict[str, Any]:
    """Give what `run.json` holds of a run whose rows were all read."""
    matchings = plan.matchings
    return {
        "format": 1,
        "run_id": writer.folder.run_id,
        "prepared_at": now.isoformat(),
        "event_type": ", ".join(one.name for one in plan.event_types),
        "event_types": [one.name for one in plan.event_types],
        "namespace": plan.said.namespace,
        "exports": [
            _export_facts(one)
            | {"findings": learnt.findings(i), "preset": matchings[i].preset}
            | _recognised(one, plan.presets[i])
            for i, one in enumerate(plan.exports)
        ],
        "rows": writer.rows,
        "events": writer.events,
        "event_ordinals": counts.event_ordinals,
        "invalid_rows": 0,
        "fields": {name: column for one in matchings for name, column in one.fields.items()},
        "constants": {name: value for one in matchings for name, value in one.constants.items()},
        "how": {name: how for one in matchings for name, how in one.how.items()},
        "proposed": {name: column for one in matchings for name, column in one.proposed.items()},
        "derived": sorted({name for one in matchings for name in one.derivable}),
        "unmatched": list(dict.fromkeys(name for one in matchings for name in one.unmatched)),
        "suggested": _suggestions(plan),
        "mapping": text_of(plan, learnt, Path(plan.exports[0].facts.path).parent),
        "legal_bases": dict(counts.legal_bases),
        "mapping_sha256": _mapping_digest(job, plan),
        "weak_identity": any(_is_weak(one, matchings) for one in plan.event_types),
        "dated": any("event_timestamp" in {*one.fields, *one.constants} for one in matchings),
        "decisions": Decisions().to_facts(),
        "asked": {
            "past": job.past,
            "repeats": job.repeats,
            "max_age_days": job.max_age_days,
            "max_invalid": str(job.max_invalid),
            "min_rows": job.min_rows,
            "send_changed": job.policy.send_changed,
            "words": list(job.words),
        },
    }


def _recognised(export: Export, preset: Preset | None) -> dict[str, object]:
    """Name what a header was recognised as, or the presets that it fits alike."""
    if preset is not None:
        return {"recognised": preset.name, "alike": []}
    return {"recognised": None, "alike": [one.id for one in fitting(export.facts.columns)]}


def _suggestions(plan: Plan) -> dict[str, Map[str, str]]:
    """Give the columns whose words tell event types, with those words, where the user has not said it."""
    if plan.said.type_by is not None:
        return {}
    return {
        one.column: one.values or {}
        for preset in plan.presets
        if preset is not None
        for one in preset.suggestions
    }


def _mapping_digest(job: Job, plan: Plan) -> str:
    """Name what decides which events a file gives, so that an interrupted run is found again only by its like."""
    decisive = [
        [repr(one) for one in plan.matchings],
        [
            sorted(one.lines.hash_rows(seed=1).to_list()) if one.lines.height else []
            for of_export in plan.lookups
            for one in of_export
        ],
        [repr(plan.said), plan.choice.keep, sorted(plan.choice.suppressed), job.max_body],
    ]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def _is_weak(event_type: EventType, matchings: Sequence[Matching]) -> bool:
    """Tell whether a new event and a repeated one cannot be told apart: no id, no key, no time."""
    if not event_type.weak_identity:
        return False
    times = {
        name
        for name in event_type.identity
        if (spec := event_type.field(name)) and spec.kind == "timestamp"
    }
    return any(
        not one.key and not times.intersection(one.view(event_type.name)) for one in matchings
    )


def _export_facts(export: Export) -> dict[str, Any]:
    dialect = export.dialect
    return {
        "path": export.facts.path,
        "format": export.facts.file_format,
        "sha256": export.digest.hexdigest(),
        "rows": export.rows,
        "blank_lines": export.blank_lines,
        "not_data": export.not_data,
        "encoding": dialect.encoding if dialect else export.facts.encoding,
        "delimiter": export.facts.delimiter,
        "columns": len(export.facts.columns),
        "bom": dialect.bom.hex() if dialect else "",
        "record_encoding": dialect.working_codec if dialect else "utf-8",
        "header_record": export.facts.header_record.decode("latin-1"),
    }


def invalid_rows(folder: RunFolder) -> int:
    """Count the rows that will not go: flawed ones and their siblings."""
    bad_events = np.zeros(int(folder.facts["event_ordinals"]), dtype=bool)
    alone = 0  # rows that belong to no event, being unreadable
    for placed, flaws in folder.flawed_rows():
        fatal = flaws.filter(pl.col("fatal") & ~pl.col("code").is_in(LEFT_OUT))[ROW]
        if len(fatal):
            events = placed.filter(pl.col(ROW).is_in(fatal.implode()))[EVENT]
            alone += events.null_count()
            bad_events[events.drop_nulls().to_numpy()] = True
    if not bad_events.any():
        return alone
    return alone + sum(
        int(bad_events[placed[EVENT].drop_nulls().to_numpy()].sum())
        for placed in folder.placed_rows()
    )
