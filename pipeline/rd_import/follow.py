"""One row on its way: its cells, the rules, the event, and what became of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from rd_import import messages
from rd_import.mapping import map_row, paths_of
from rd_import.matching import Matching
from rd_import.rules import columns_of
from rd_import.run_folder import RunFolder
from rd_import.values import EVENT, ROW, RowGroup
from rdstation_events.event_type import EventType

if TYPE_CHECKING:
    from rd_import.ledger import Ledger


@dataclass(slots=True)
class Watched:
    """A row of the first file on its way, for `explain`.

    Args:
        row: Its number among the file's data rows, from 1.
        cells: Its cells under the file's own names.
        event_type: What it is sent as; None where it was left out before that was known.
        fields: Each field's value and where it is from, in the order of the payload.
    """

    row: int
    cells: dict[str, str | None] = field(default_factory=dict)
    event_type: str | None = None
    fields: list[dict[str, Any]] = field(default_factory=list)

    def read(self, source: pl.DataFrame) -> None:
        """Remember the row's own cells."""
        found = source.filter(pl.col(ROW) == self.row - 1)
        if found.height:
            self.cells = {
                name: cell if cell is None or isinstance(cell, str) else str(cell)
                for name, cell in found.row(0, named=True).items()
                if name != ROW
            }

    def see(
        self, event_type: EventType, rows: RowGroup, typed: RowGroup, matching: Matching
    ) -> None:
        """Remember what the stages made of the row; its payload is the plain definition's."""
        found = typed.table.filter(pl.col(ROW) == self.row - 1)
        if found.is_empty():
            return
        self.event_type = event_type.name
        payload = map_row(found.row(0, named=True), event_type)
        texts = rows.table.filter(pl.col(ROW) == self.row - 1).row(0, named=True)
        rules = {one.field: one for one in matching.fed[event_type.name]}
        for path, name, value in paths_of(payload):
            fed = rules.get(name)
            columns = columns_of(fed.rule, list(self.cells)) if fed is not None else ()
            self.fields.append(
                {
                    "field": name,
                    "path": path,
                    "value": value,
                    "rule": fed.words if fed is not None and not fed.rule.is_constant else "",
                    "constant": fed is not None and fed.rule.is_constant,
                    "how": fed.how if fed is not None else "derived",
                    "text": texts.get(name),
                    "cells": {column: self.cells.get(column) for column in columns},
                }
            )


def explanation(
    folder: RunFolder, watched: Watched, ledger: "Ledger | None", account: int | None
) -> dict[str, Any]:
    """Give what is known of a followed row, as plain values."""
    [placed] = _rows_of(folder, watched.row - 1)
    [problems] = [
        flaws.filter(pl.col(ROW) == watched.row - 1)
        for rows, flaws in folder.flawed_rows()
        if rows[ROW][0] <= watched.row - 1 <= rows[ROW][-1]
    ]
    found = {
        "place": messages.place(folder.facts["exports"][0]["path"], watched.row, None),
        "row_number": watched.row,
        "line_number": placed["line_number"],
        "event_type": watched.event_type,
        "fields": [
            one
            | {
                "rule": messages.fed_by(one["rule"])
                or messages.say(f"explain.{'constant' if one['constant'] else 'derived'}"),
                "how": messages.how(one["how"]),
            }
            for one in watched.fields
        ],
        "problems": [_problem_words(one, folder) for one in problems.iter_rows(named=True)],
        "body": None,
        "answer": {"state": "not_sent"},
    }
    for bodies in folder.bodies():
        for event in bodies.filter(pl.col(EVENT) == placed[EVENT]).iter_rows(named=True):
            found["body"] = json.loads(event["body"])
            found["event_key"] = event["event_key"].hex()
            found["answer"] = _answer(event, ledger, account)
    return found


def _rows_of(folder: RunFolder, row: int) -> Iterator[dict[str, Any]]:
    for placed in folder.placed_rows():
        yield from placed.filter(pl.col(ROW) == row).iter_rows(named=True)


def _problem_words(problem: dict[str, Any], folder: RunFolder) -> dict[str, Any]:
    what, hint = messages.problem(
        problem["code"],
        field=problem["field"],
        value=problem["value"],
        limit=problem["limit"],
        event_type=folder.facts["event_type"],
        place=messages.word("earlier_line"),
    )
    return {"code": problem["code"], "field": problem["field"], "message": what, "hint": hint}


def _answer(event: dict[str, Any], ledger: "Ledger | None", account: int | None) -> dict[str, Any]:
    """Say what became of an event, as the ledger stands."""
    if ledger is None or account is None:
        return {"state": "not_looked_up"}
    line = ledger.lines(account, [event["event_key"]]).get(event["event_key"])
    if line is None:
        return {"state": "known"}
    uuid = line.uuid_of(event["payload_sha256"])
    if uuid is not None:
        return {"state": "accepted", "event_uuid": uuid}
    if line.doubt or line.request is not None:
        return {"state": "doubt"}
    if line.accepted:
        return {"state": "changed", "event_uuid": line.accepted[-1].of}
    if line.why != "refused":
        return {"state": "known"}
    error = ledger.refusal_of(account, event["event_key"])
    said = {"code": error.code, "column": error.path, "message": error.message} if error else {}
    return {"state": "refused", **said}
