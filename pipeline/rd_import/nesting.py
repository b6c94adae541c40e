"""How deep a text from strangers may nest: its brackets are counted before a parser follows them down.

Parsers go down by calling themselves; how far they get before Python or the stack ends them differs by version.
"""

import json
import re
from typing import Any, Final

DEEPEST: Final = 64  # an API answer has five levels, an order with items and their options six
_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)
_AS_ONE: Final = bytes.maketrans(b"{}", b"[]")
_NO_MARKS: Final = bytes(set(range(256)) - set(b'"[]{}'))


class TooDeepError(ValueError):
    """A text nests deeper than anything honest does."""

    def __init__(self) -> None:
        super().__init__(f"it is nested more than {DEEPEST} deep")


def read_json(text: str | bytes, **how: Any) -> Any:
    """Parse JSON of bounded depth; `how` is what `json.loads` takes.

    Raises:
        ValueError: It is no JSON, or nested too deeply.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    refuse_depth(text)
    return json.loads(text, **how)


def refuse_depth(text: str) -> None:
    """Refuse a text whose brackets, those outside of `"texts"`, nest too deeply.

    What is not balanced is left to the parser, as long as it cannot go down further than twice the limit.

    Raises:
        TooDeepError: They do.
    """
    data = text.encode("utf-8", "surrogatepass")
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return
    plain = _ESCAPED.sub(b"", data) if b"\\" in data else data
    marks = b"".join(plain.translate(_AS_ONE, _NO_MARKS).split(b'"')[::2])
    for _ in range(DEEPEST):  # each round takes the innermost pairs away
        fewer = marks.replace(b"[]", b"")
        if len(fewer) == len(marks):
            break
        marks = fewer
    if len(marks) > DEEPEST or b"[]" in marks:
        raise TooDeepError
