"""Events -> the bytes that go over the wire, with the key that makes each of them unique. Pure."""

import hashlib
import json
from collections.abc import Collection
from typing import Final

import polars as pl

from rd_import.values import (
    ENCODED_SCHEMA,
    EVENT,
    KEY,
    OCCURRENCE,
    PROBLEM_SCHEMA,
    ROW,
    EncodedGroup,
    EventGroup,
    Sifted,
)
from rdstation_events import api_facts
from rdstation_events.event_type import EventType

BRACKETS: Final = 2  # a body of one event is `[` + event + `]`


def encode(
    events: Sifted[EventGroup], event_type: EventType, *, namespace: str, max_body: int
) -> Sifted[EncodedGroup]:
    """Write each event as one JSON object and compute its key.

    Args:
        events: Payload columns; a null is a key that is left out. The first column is never null.
        event_type: What the events are.
        namespace: Keeps apart the keys of two shops whose ids could meet.
        max_body: Largest request body in bytes; an event that does not fit alone is set aside.

    Returns:
        Encoded events, and all problems, those given included.
    """
    group = events.kept
    bodies = _json(group.payloads, event_type.name)
    facts = group.facts
    identity = facts.select(identity_text(event_type, facts.columns).alias("identity"))["identity"]
    occurrence = (
        facts[OCCURRENCE] if OCCURRENCE in facts.columns else pl.repeat(1, facts.height, eager=True)
    )
    binary = bodies.cast(pl.Binary)
    keys = key_texts(event_type.name, namespace, identity, occurrence).cast(pl.Binary)
    table = pl.DataFrame(
        {
            EVENT: facts[EVENT],
            ROW: facts[ROW],
            "event_type": pl.repeat(event_type.name, facts.height, eager=True),
            "event_key": _digests(keys),
            "occurrence": occurrence.cast(pl.UInt32),
            "identity": identity,
            "email": group.payloads["email"].str.to_lowercase(),
            "identifier": facts["identifier"] if "identifier" in facts.columns else None,
            "source_timestamp": facts["event_timestamp"]
            if "event_timestamp" in facts.columns
            else None,
            "payload_sha256": _digests(binary),
            "body": binary,
        },
        schema=ENCODED_SCHEMA,
    )
    too_large = table["body"].bin.size() > max_body - BRACKETS
    problems = table.filter(too_large).select(
        pl.col(ROW),
        pl.lit("EVENT_TOO_LARGE").alias("code"),
        pl.lit(None, dtype=pl.String).alias("field"),
        pl.col("body").bin.size().cast(pl.String).alias("value"),
        pl.lit(str(max_body - BRACKETS)).alias("limit"),
        pl.lit(value=True).alias("fatal"),
    )
    return Sifted(
        EncodedGroup(table.filter(~too_large)),
        pl.concat([events.problems, problems.cast(PROBLEM_SCHEMA)]),
    )


def _digests(texts: pl.Series) -> pl.Series:
    sha256 = hashlib.sha256
    return pl.Series([sha256(text).digest() for text in texts.to_list()], dtype=pl.Binary)


def _json(payloads: pl.DataFrame, event_type: str) -> pl.Series:
    """Write one JSON object per line, nulls left out."""
    opening = f'{{"event_type":"{event_type}","event_family":"{api_facts.EVENT_FAMILY}","payload":'
    filled = [one.name for one in payloads if one.null_count() < max(payloads.height, 1)]
    payload = pl.struct(filled).struct.json_encode()
    if any(_has_nulls(payloads[name]) for name in filled):
        # A null may be cut out as text: inside a JSON string every quote is escaped, so `,"key":null` occurs only
        # between members; and the first member of each object is never null, so the comma before is always there.
        payload = payload.str.replace_all(r',"[a-z0-9_]+":null', "")
    return payloads.select(pl.concat_str(pl.lit(opening), payload, pl.lit("}")).alias("body"))[
        "body"
    ]


def _has_nulls(column: pl.Series) -> bool:
    """Tell whether something in a column is null, at any depth."""
    if column.null_count():
        return True
    if isinstance(column.dtype, pl.List):
        return _has_nulls(column.explode(empty_as_null=False))
    if isinstance(column.dtype, pl.Struct):
        return any(_has_nulls(field) for field in column.struct.unnest())
    return False


def key_texts(
    event_type: str, namespace: str, identity: pl.Series, occurrence: pl.Series
) -> pl.Series:
    """Write what `key_of` hashes, for a column of identities in canonical form."""
    opening = f'["{event_type}",{json.dumps(namespace, ensure_ascii=False)},'
    parts = (pl.lit(opening), pl.lit(identity), pl.lit(","), pl.lit(occurrence), pl.lit("]"))
    return pl.select(pl.concat_str(parts)).to_series()


def identity_text(event_type: EventType, known: Collection[str]) -> pl.Expr:
    """Write the identity in canonical form: a JSON array, times in UTC, e-mails in lower case.

    Columns that the user named as the key take the place of the type's identity columns.
    """
    parts = [pl.col(name) for name in known if name.startswith(KEY)]
    for name in () if parts else event_type.identity:
        spec = event_type.field(name)
        if name not in known:
            parts.append(pl.lit(None, dtype=pl.String).alias(name))
            continue
        column = pl.col(name)
        if spec is not None and spec.kind == "timestamp":
            column = column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        elif spec is not None and spec.format == "email":
            column = column.str.to_lowercase()
        parts.append(column.cast(pl.String).alias(name))
    listed = pl.struct(pl.concat_list(parts).alias("v")).struct.json_encode()
    return listed.str.slice(5).str.head(-1)
