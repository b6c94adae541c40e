"""What a Parquet file's directory says of its column chunks, read without pyarrow.

pyarrow ends the whole process over a directory that contradicts itself where it is asked for a chunk's facts (26.0:
size statistics of the wrong length); opening and reading such a file is refused in order. The directory is in Thrift's
compact protocol.

Source: parquet-format, `parquet.thrift`; Thrift, `thrift-compact-protocol.md`.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TAIL: Final = struct.Struct("<I4s")
DEEPEST: Final = 20  # structs within structs; a directory has five
BYTE_ARRAY: Final = 6
DELTA_BYTE_ARRAY: Final = 7
ROW_GROUPS: Final = 4
COLUMNS: Final = 1
META_DATA: Final = 3


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group: `values` counts items of lists too, `unpacked` is in bytes."""

    path: str
    holds_texts: bool
    shares_prefixes: bool
    values: int
    unpacked: int
    has_dictionary: bool


def chunks_of(path: Path) -> list[Chunk]:
    """Read the facts of every column chunk.

    Raises:
        OSError: The file cannot be read.
        ValueError: Its directory is damaged.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - TAIL.size, 0))
        tail = file.read(TAIL.size)
        if len(tail) < TAIL.size:
            raise ValueError
        length, _ = TAIL.unpack(tail)
        if length > size - TAIL.size:
            raise ValueError
        file.seek(size - TAIL.size - length)
        reader = _Compact(file.read(length))
    try:
        directory = reader.struct(0)
        return [
            _chunk(chunk[META_DATA])
            for group in directory.get(ROW_GROUPS, [])
            for chunk in group[COLUMNS]
        ]
    except (IndexError, KeyError, TypeError, AttributeError, struct.error) as error:
        message = "its directory is damaged"
        raise ValueError(message) from error


def _chunk(facts: dict[int, Any]) -> Chunk:
    return Chunk(
        path=b".".join(facts[3]).decode(),
        holds_texts=facts[1] == BYTE_ARRAY,
        shares_prefixes=DELTA_BYTE_ARRAY in facts[2],
        values=int(facts[5]),
        unpacked=int(facts[6]),
        has_dictionary=11 in facts or bool({2, 8} & set(facts[2])),  # its offset, or its encodings
    )


class _Compact:
    """Thrift values, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self, depth: int) -> dict[int, Any]:
        """Read fields by number until the end of a struct."""
        if depth > DEEPEST:
            raise ValueError
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            found[number] = head & 15 == 1 if head & 15 in {1, 2} else self._value(head & 15, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in {1, 2, 3}:
            return self._byte()
        if kind in {4, 5, 6}:
            return self._signed()
        if kind == 7:
            self._at += 8
            return None
        if kind == 8:
            length = self._varint()
            self._at += length
            return self._data[self._at - length : self._at]
        if kind in {9, 10}:
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            if count > len(self._data):
                raise ValueError
            return [self._value(head & 15, depth) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError  # maps, which a directory has none of

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
