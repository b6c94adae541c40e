"""A proposed mapping file: what a header and a file's rows say of themselves."""

from collections.abc import Mapping as Map
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rd_import.job import Job
from rd_import.learn import Learnt
from rd_import.mapping_text import mapping_text
from rd_import.read import read
from rd_import.settle import Plan, planned


@dataclass(frozen=True, slots=True)
class Draft:
    """A proposed mapping: its text, required fields that nothing feeds, fields with a column that may be meant.

    `columns` are the file's.
    """

    text: str
    missing: tuple[str, ...]
    proposed: Map[str, str]
    columns: tuple[str, ...]


def draft(job: Job, folder: Path) -> Draft:
    """Propose a mapping file from a real export, missing fields and all.

    Args:
        job: The export, and what the user says about it.
        folder: Where the mapping file will stand.

    Raises:
        JobError: What is said does not fit the file.
    """
    with ExitStack() as spool:
        plan = planned(job, spool, complete=False)
        learnt = Learnt(plan, job)
        for _ in learnt.looked_at(read(plan.exports)):
            pass
        matching = plan.matchings[0]
        missing = dict.fromkeys(name for one in plan.event_types for name in matching.missing(one))
        proposed = {
            name: column
            for name, column in matching.proposed.items()
            if not any(name in matching.view(one.name) for one in plan.event_types)
        }
        text = text_of(plan, learnt, folder)
        return Draft(text, tuple(missing), proposed, tuple(plan.exports[0].facts.columns))


def text_of(plan: Plan, learnt: Learnt, folder: Path) -> str:
    """Write what a plan settled, and what was learnt of its first file, as a mapping file in this folder would."""
    preset = plan.presets[0]
    said = plan.said.over(preset.mapping) if preset is not None else plan.said
    lookups = tuple(replace(one, file=_seen_from(folder, one.file)) for one in said.lookups)
    return mapping_text(
        plan.exports[0].facts.path,
        plan.event_types,
        plan.matchings[0],
        replace(said, lookups=lookups),
        learnt.findings(0),
        preset.suggestions if preset is not None else (),
    )


def _seen_from(folder: Path, file: str) -> str:
    """Name a file as a mapping in this folder would: by its name alone where it stands beside it."""
    path = Path(file).resolve()
    return path.name if path.parent == folder.resolve() else str(path)
