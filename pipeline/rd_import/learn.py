"""What is learnt of the files while their rows are matched: how each writes dates and amounts, and what is torn."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import accumulate
from typing import Any

import polars as pl

from rd_import.cells import CellFormat
from rd_import.export import Export
from rd_import.follow import Watched
from rd_import.job import Job
from rd_import.lookup import look_up
from rd_import.mapping_file import Rule
from rd_import.match import match
from rd_import.matching import Fed
from rd_import.run_folder import FolderWriter
from rd_import.settle import Plan
from rd_import.survey import Survey
from rd_import.torn import TornRows
from rd_import.values import RowGroup, SourceGroup


class Learnt:
    """Matches rows on their way and learns how each file writes its dates and amounts."""

    def __init__(self, plan: Plan, job: Job) -> None:
        said = job.said.file
        stated = {"decimal": job.decimal, "dates": job.dates, "timezone": said.timezone}
        kept = {"decimal": job.mapping.file.decimal, "dates": job.mapping.file.dates}
        self._plan = plan
        self.torn = TornRows(plan.by)
        self._surveys = [
            {
                one.name: Survey(
                    one,
                    stated,
                    matching.rules(one.name),
                    _numeric(export, matching.fed[one.name]),
                    kept,
                )
                for one in plan.event_types
            }
            for export, matching in zip(plan.exports, plan.matchings, strict=True)
        ]
        self._formats: dict[str, list[tuple[int, CellFormat]]] = {}

    def matched(
        self,
        groups: Iterable[SourceGroup],
        writer: FolderWriter,
        watched: Watched | None = None,
    ) -> Iterator[RowGroup]:
        """Keep each row as it was read, and give it on under the schema's names."""
        for group in groups:
            kept = writer.keep_source(group)
            if watched is not None and group.export == 0:
                watched.read(kept.table)
            yield from self.looked_at([replace(group, rows=kept)])

    def looked_at(self, groups: Iterable[SourceGroup]) -> Iterator[RowGroup]:
        """Match rows and look at how they are written."""
        for group in groups:
            matching = self._plan.matchings[group.export]
            source = RowGroup(look_up(group.rows.table, self._plan.lookups[group.export]))
            rows = match(source, matching)
            for name, survey in self._surveys[group.export].items():
                view = matching.view(name)
                survey.add(
                    rows.table.select(pl.col(column).alias(one) for one, column in view.items())
                )
            self._look_for_torn(group, rows)
            yield rows

    def _look_for_torn(self, group: SourceGroup, rows: RowGroup) -> None:
        dialect = self._plan.exports[group.export].dialect
        codec, delimiter = (dialect.working_codec, dialect.delimiter) if dialect else ("utf-8", ",")
        self.torn.add(group, rows.table, self._plan.id_column(group.export), codec, delimiter)

    def formats(self, event_type: str) -> list[tuple[int, CellFormat]]:
        """Give each file's format with its first row, once all rows were read."""
        if event_type not in self._formats:
            exports = self._plan.exports
            firsts = accumulate((one.rows for one in exports[:-1]), initial=0)
            self._formats[event_type] = [
                (first, surveys[event_type].format())
                for first, surveys in zip(firsts, self._surveys, strict=True)
            ]
        return self._formats[event_type]

    def findings(self, number: int) -> list[dict[str, Any]]:
        """Give what was found out about one file, its columns included; once where types share a column."""
        export, matching = self._plan.exports[number], self._plan.matchings[number]
        found = [asdict(one) for one in export.findings]
        for name, survey in self._surveys[number].items():
            words = {one.field: one.words for one in matching.fed[name]}
            for one in survey.findings():
                named = asdict(one) | {"column": words.get(str(one.column), one.column)}
                if named not in found:
                    found.append(named)
        return found


def _numeric(export: Export, fed: Iterable[Fed]) -> frozenset[str]:
    """Name the fields whose cells were numbers in the file already, and are taken as they are."""
    return frozenset(
        one.field
        for one in fed
        if one.rule.name in export.facts.numeric and one.rule == Rule(one.rule.column)
    )
