"""What kind of CSV this is: encoding, delimiter and where the header stands."""

import codecs
import csv
from dataclasses import dataclass

from rd_import.errors import ExportError, JobError

DELIMITERS = (",", ";", "\t", "|")
BOMS = (  # UTF-32's mark begins with UTF-16's, so it is looked for first
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to read the bytes of one CSV file.

    Args:
        encoding: Python codec.
        bom: Bytes to leave out at the start.
        delimiter: One ASCII character between cells.
    """

    encoding: str
    bom: bytes
    delimiter: str

    @property
    def ascii_compatible(self) -> bool:
        """Tell whether delimiters, quotes and line ends are the same single bytes as in ASCII."""
        return codecs.encode(',;\t|"\r\n', self.encoding) == b',;\t|"\r\n'


def find_dialect(head: bytes, path: str, *, encoding: str | None, delimiter: str | None) -> Dialect:
    """Tell a file's dialect from its first bytes; what the user says wins.

    Args:
        head: The file's first bytes, at least its header record.
        path: For messages.
        encoding: What the user says, if anything.
        delimiter: What the user says, if anything.

    Raises:
        JobError: The named encoding does not exist.
        ExportError: The file is no text, or no delimiter stands out.
    """
    bom, found = next(((mark, name) for mark, name in BOMS if head.startswith(mark)), (b"", None))
    codec = _known_codec(encoding) if encoding else found or "utf-8"
    if found is None and not encoding and b"\x00" in head:
        raise ExportError("binary_file", path=path)
    if found is not None and codec != found:
        bom = b""
    text = _decode_head(head[len(bom) :], codec, path)
    return Dialect(codec, bom, delimiter or _stands_out(text, path))


def header_cells(record: str, delimiter: str) -> list[str]:
    """Split a header record into its names, made unique: a second `Estado` becomes `Estado (2)`."""
    cells = next(csv.reader([record], delimiter=delimiter), [])
    seen: dict[str, int] = {}
    names = []
    for position, cell in enumerate(cells, start=1):
        name = cell.strip() or f"column {position}"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def _known_codec(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError as error:
        raise JobError("unknown_encoding", value=name) from error


def _decode_head(head: bytes, codec: str, path: str) -> str:
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        return decoder.decode(head)
    except UnicodeDecodeError as error:
        line = head[: error.start].count(b"\n") + 1
        raise ExportError(
            "not_this_encoding", path=path, encoding=codec, line=line, byte=f"0x{head[error.start]:02x}"
        ) from error


def _stands_out(text: str, path: str) -> str:
    """Choose the delimiter that cuts the first line, quotes respected, into the most cells."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    counts = {mark: len(next(csv.reader([line], delimiter=mark), [])) for mark in DELIMITERS}
    most = max(counts.values())
    best = [mark for mark, count in counts.items() if count == most]
    if most == 1:
        return ","
    if len(best) > 1:
        raise ExportError("unclear_delimiter", path=path, candidates=" ".join(map(repr, best)))
    return best[0]
