"""What the user names -> files to read: paths, patterns, folders, archives, stdin, addresses.

Compressed files are known by their first bytes, whatever their name. Every decompression is
watched: what grows out of all proportion is a bomb and ends the reading.
"""

import bz2
import difflib
import errno
import glob
import gzip
import io
import lzma
import os
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, gettempdir
from typing import IO, Any, BinaryIO, Final, cast

import pyarrow as pa

from rd_import.errors import ExportError, JobError, RdImportError
from rd_import.export import Source
from rd_import.frames import kept_frame
from rd_import.job import name_of

DATA_SUFFIXES: Final = (".csv", ".tsv", ".txt", ".parquet", ".xlsx", ".jsonl", ".ndjson")
PACKED_SUFFIXES: Final = (".gz", ".zst", ".xz", ".bz2", ".zip")
HEAD_BYTES: Final = 1 << 16
COPY_BYTES: Final = 1 << 20
MAX_RATIO: Final = 200  # real exports shrink 5 to 40 times; deflate's most is 1,032
FREE_BYTES: Final = (
    64 << 20
)  # so much may come out of anything, ten-million-character cells included
MAX_UNPACKED: Final = 256 << 30
MAX_COPY: Final = 256 << 30  # ten million rows of the widest exports are 30 GB
KEPT_FREE: Final = 64 << 20  # bytes of disk that a copy leaves to others
MAX_MEMBERS: Final = 1000  # files in one archive
MAX_LAYERS: Final = 2  # a `.csv.gz` in a zip
PACKED: Final = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # an empty archive
}
FOREIGN: Final = {  # first bytes of files that people pick by mistake
    b"%PDF": "pdf",
    b"\x89PNG": "picture",
    b"\xff\xd8\xff": "picture",
    b"Rar!": "rar",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"SQLite format 3\x00": "database",
    b"\x28\xb5\x2f\xfd\xff": "damaged",
}
WEB_PAGE: Final = re.compile(
    rb"[\s\xef\xbb\xbf]*<(!doctype|html|head|body|meta|table|div|style)[\s>]", re.IGNORECASE
)
XML: Final = re.compile(rb"[\s\xef\xbb\xbf]*<\?xml\s")
OLD_OFFICE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED_PACKAGE: Final = "EncryptedPackage".encode("utf-16-le")
EXCEL_MEMBER: Final = "xl/workbook.xml"
_DAMAGED: Final = (
    EOFError, OSError, lzma.LZMAError, zipfile.BadZipFile, zlib.error, ValueError, RuntimeError,
    NotImplementedError, pa.ArrowException,
)  # fmt: skip


def find_sources(given: Iterable[Any], spool: ExitStack) -> Iterator[Source]:
    """Name every file that is meant, in order.

    Args:
        given: Paths, folders, patterns, `-`, addresses such as `s3://…`, and frames.
        spool: Closes what must be kept until the reading ends, such as the copy of stdin.

    Raises:
        ExportError: There is no such file, it cannot be read, or is none that holds a table.
    """
    for place, one in enumerate(given):
        for path, name in _files(one, name_of(one, place), spool):
            yield from _unpacked(path, name)


def open_source(source: Source) -> BinaryIO:
    """Open an input's bytes, decompressed and watched.

    Raises:
        ExportError: It cannot be opened.
    """
    opened = ExitStack()
    try:
        stream: IO[bytes] = opened.enter_context(source.path.open("rb"))
        for layer in source.layers:
            stream = _opened(layer, stream, source, opened)
    except _DAMAGED as error:
        opened.close()
        raise _damaged(source, error) from error
    return cast("BinaryIO", _Watched(stream, source, opened) if source.layers else stream)


def head_of(source: Source) -> bytes:
    """Give an input's first bytes.

    Raises:
        ExportError: It cannot be read.
    """
    with open_source(source) as stream:
        try:
            return _filled(stream, HEAD_BYTES)
        except OSError as error:
            raise ExportError(
                "cannot_open", path=source.shown, reason=error.strerror or str(error)
            ) from error


def seekable(source: Source, spool: ExitStack) -> Path:
    """Give a plain local file of an input, unpacked to a private copy where it is packed."""
    if not source.layers:
        return source.path
    with open_source(source) as stream:
        return _copied(stream, source.shown, spool)


# --- names -> files
# ----------------------------------------------------------------------------------------------


def _files(export: Any, given: str, spool: ExitStack) -> Iterator[tuple[Path, str]]:
    if not isinstance(export, str | Path):
        yield kept_frame(export, given, spool), given
    elif given == "-":
        yield _of_stdin(spool), "stdin"
    elif "://" in given:
        yield from _from_address(given, spool)
    else:
        for path in _paths(given):
            yield path, str(path)


def _paths(given: str) -> Iterator[Path]:
    path = Path(given)
    if path.is_dir():
        found = sorted(one for one in path.iterdir() if _is_data(one.name) and one.is_file())
        if not found:
            raise ExportError("empty_folder", path=given, suffixes=", ".join(DATA_SUFFIXES))
        yield from found
    elif path.exists():
        yield path
    else:
        matches = sorted(Path(name) for name in glob.glob(given, recursive=True))
        if not matches:
            raise ExportError("no_such_file", path=given, near=_near(path))
        yield from matches


def _near(path: Path) -> tuple[str, ...]:
    """Name a file that may have been meant."""
    try:
        names = [one.name for one in path.parent.iterdir() if _is_data(one.name)]
    except OSError:
        return ()
    longer = [name for name in names if name.startswith(path.name)]
    near = longer or difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return tuple(str(path.with_name(name)) for name in near[:1])


def _is_data(name: str) -> bool:
    """Tell whether a file of a folder or archive is meant; our own results are not."""
    stem = name.lower()
    if (
        ".audit." in stem
        or stem.endswith(".rejected.csv")
        or Path(stem).name.startswith((".", "~$"))
    ):
        return False
    for suffix in PACKED_SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem.endswith(DATA_SUFFIXES)


def _of_stdin(spool: ExitStack) -> Path:
    if sys.stdin is None:
        raise ExportError("cannot_open", path="stdin", reason=os.strerror(errno.EBADF))
    try:
        return _copied(sys.stdin.buffer, "stdin", spool)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError("cannot_open", path="stdin", reason=reason) from error


def _from_address(address: str, spool: ExitStack) -> Iterator[tuple[Path, str]]:
    """Copy an object once, so that what was checked is what is sent."""
    try:
        import fsspec
    except ImportError as error:
        raise JobError("needs_extra", what=address, extra="cloud") from error
    try:
        for file in fsspec.open_files(address, "rb"):
            with file as stream:
                name = file.full_name if "*" in address else address
                yield _copied(stream, name, spool, getattr(stream, "size", None) or 0), name
    except ImportError as error:
        raise JobError("needs_extra", what=address, extra="cloud") from error
    except RdImportError:
        raise
    except Exception as error:  # each store's library raises its own
        raise ExportError("cannot_open", path=address, reason=_first_line(error)) from error


def _copied(stream: IO[bytes], name: str, spool: ExitStack, told: int = 0) -> Path:
    """Copy what can be read only once, or from far away, into a private file.

    Args:
        stream: What is copied; reading stops at the limit.
        name: How errors name it.
        spool: Removes the copy.
        told: Its size in bytes, where a server tells it before.

    Raises:
        ExportError: It is larger than any export, or than the disk has room for.
        OSError: It cannot be read.
    """
    folder, size = gettempdir(), 0
    with _written(name, folder):
        copy = NamedTemporaryFile(prefix="rd-import-", delete=False)  # noqa: SIM115 -- private: 0600
    spool.callback(lambda: Path(copy.name).unlink(missing_ok=True))
    with copy:
        _refuse_copy(name, told, told, folder)
        while data := stream.read(COPY_BYTES):
            size += len(data)
            _refuse_copy(name, size, len(data), folder)
            with _written(name, folder):
                copy.write(data)
        with _written(name, folder):
            copy.flush()
    return Path(copy.name)


@contextmanager
def _written(name: str, folder: str) -> Iterator[None]:
    """Tell that a copy could not be written from that its source could not be read."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError("cannot_copy", path=name, folder=folder, reason=reason) from error


def _refuse_copy(name: str, size: int, more: int, folder: str) -> None:
    """Refuse a copy of so many bytes, `more` of which are not written yet."""
    if size > MAX_COPY:
        raise ExportError("copy_too_large", path=name, most=MAX_COPY >> 30)
    free = shutil.disk_usage(folder).free
    if free - more < KEPT_FREE:
        raise ExportError(
            "no_room", path=name, folder=folder, free=free >> 20, kept=KEPT_FREE >> 20
        )


# --- archives and compressed files
# -------------------------------------------------------------------------------


def _unpacked(path: Path, name: str) -> Iterator[Source]:
    source = Source(path, name)
    for _ in range(MAX_LAYERS):
        try:
            head = head_of(source)
        except ExportError:
            raise
        except OSError as error:
            raise ExportError(
                "cannot_open", path=name, reason=error.strerror or str(error)
            ) from error
        _refuse_foreign(head, source)
        kind = next((kind for magic, kind in PACKED.items() if head.startswith(magic)), None)
        if kind is None:
            break
        if kind == "zip":
            members = _members(source)
            if members is None:
                break  # a workbook
            for member in members:
                yield from _inner(Source(path, name, member, (*source.layers, "zip")))
            return
        source = Source(path, name, None, (*source.layers, kind))
    yield source


def _inner(source: Source) -> Iterator[Source]:
    """Look into a member of an archive, which may be compressed once more."""
    head = head_of(source)
    kind = next((kind for magic, kind in PACKED.items() if head.startswith(magic)), None)
    _refuse_foreign(head, source)
    yield (
        source
        if kind in {None, "zip"}
        else Source(source.path, source.name, source.member, (*source.layers, str(kind)))
    )


def _members(source: Source) -> tuple[str, ...] | None:
    """Name the data files of an archive; None for a workbook, which is an archive too."""
    try:
        with zipfile.ZipFile(source.path) as archive:
            infos = archive.infolist()
    except _DAMAGED as error:
        raise _damaged(source, error) from error
    if any(one.filename == EXCEL_MEMBER for one in infos):
        refuse_bomb(source.shown, sum(one.file_size for one in infos), source.path.stat().st_size)
        return None
    found = [
        one  # `is_dir` falls over a file without a name
        for one in infos
        if one.filename and not one.is_dir() and "__MACOSX" not in one.filename
    ]
    data = [one for one in found if _is_data(one.filename)] or (found if len(found) == 1 else [])
    if not data or len(data) > MAX_MEMBERS:
        raise ExportError("empty_archive", path=source.shown, suffixes=", ".join(DATA_SUFFIXES))
    if any(one.flag_bits & 1 for one in data):
        raise ExportError("encrypted", path=source.shown)
    # Members may share their bytes, so that each looks harmless; none unpacks to more than it says.
    refuse_bomb(source.shown, sum(one.file_size for one in data), source.path.stat().st_size)
    return tuple(sorted(one.filename for one in data))


def _refuse_foreign(head: bytes, source: Source) -> None:
    for magic, kind in FOREIGN.items():
        if head.startswith(magic):
            raise ExportError("not_csv_or_parquet", path=source.shown, kind=kind)
    if WEB_PAGE.match(head):
        raise ExportError("not_csv_or_parquet", path=source.shown, kind="web page")
    if XML.match(head):
        raise ExportError("not_csv_or_parquet", path=source.shown, kind="xml")
    if head.startswith(OLD_OFFICE):
        with open_source(source) as stream:
            locked = ENCRYPTED_PACKAGE in stream.read(1 << 24)
        if locked:
            raise ExportError("encrypted", path=source.shown)
        raise ExportError("not_csv_or_parquet", path=source.shown, kind="old workbook")


def _opened(layer: str, stream: IO[bytes], source: Source, opened: ExitStack) -> IO[bytes]:
    if layer == "zip":
        archive = opened.enter_context(zipfile.ZipFile(stream))
        return opened.enter_context(archive.open(source.member or ""))
    if layer == "zstd":
        # pyarrow's, since the zstandard package does not tell a file that was cut off from one that
        # ended.
        return cast(
            "IO[bytes]",
            opened.enter_context(pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd")),
        )
    openers: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "xz": lzma.open, "bzip2": bz2.open}
    return cast("IO[bytes]", opened.enter_context(openers[layer](stream, "rb")))


class _Watched(io.RawIOBase):
    """A decompressed stream that must not grow out of proportion or break off."""

    def __init__(self, stream: IO[bytes], source: Source, opened: ExitStack) -> None:
        self._stream = stream
        self._opened = opened
        self._source = source
        self._packed = source.path.stat().st_size
        self._out = 0

    def read(self, size: int = -1) -> bytes:
        """Read up to so many bytes; fewer only at the end."""
        try:
            data = _filled(self._stream, size if size >= 0 else MAX_UNPACKED)
        except ExportError:
            raise
        except _DAMAGED as error:
            raise _damaged(self._source, error) from error
        self._out += len(data)
        refuse_bomb(self._source.shown, self._out, self._packed)
        return data

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def close(self) -> None:
        """Close all that was opened below."""
        self._opened.close()
        super().close()


def refuse_bomb(path: str, unpacked: int, packed: int) -> None:
    """End the reading of what unpacks to far more than it is.

    Raises:
        ExportError: It is a bomb, or larger than anything that can be imported.
    """
    if unpacked > FREE_BYTES and (unpacked > MAX_RATIO * packed or unpacked > MAX_UNPACKED):
        raise ExportError("bomb", path=path, packed=packed, unpacked=unpacked, ratio=MAX_RATIO)


def _filled(stream: IO[bytes], size: int) -> bytes:
    """Read exactly `size` bytes unless the stream ends before."""
    parts: list[bytes] = []
    left = size
    while left > 0:
        part = stream.read(min(left, COPY_BYTES))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _damaged(source: Source, error: BaseException) -> ExportError:
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
        return ExportError("cannot_open", path=source.shown, reason=error.strerror or str(error))
    if "encrypted" in str(error) or "password" in str(error).lower():
        return ExportError("encrypted", path=source.shown)
    kind = source.layers[-1] if source.layers else "zip"
    return ExportError("damaged_archive", path=source.shown, kind=kind, reason=_first_line(error))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:200]
