"""Where results go: files of this machine, or objects of a store by address, each whole or not there.

A local file is private, and durable before its name stands; an object is written under another name and then copied,
which a store does at once. Who may read an object is the store's own matter.
"""

import os
import secrets
from pathlib import Path
from typing import Any, Final, cast

from rd_import.errors import JobError
from rd_import.run_folder import private_file, sync_folder

_PROCESS: Final = secrets.token_hex(4)


def place_of(named: Path | str) -> Path:
    """Take a path, or an address such as `s3://bucket/folder/orders.audit.parquet`.

    Raises:
        JobError: What opens addresses of this kind is not installed.
    """
    if "://" not in str(named):
        return Path(named)
    try:
        from upath import UPath

        place = UPath(str(named))
        _ = place.fs
    except ImportError as error:
        raise JobError("needs_extra", what=str(named), extra="cloud") from error
    return cast("Path", place)  # it answers to all that is asked of a path here


def is_local(place: Path) -> bool:
    """Tell whether a place is a file of this machine."""
    return "://" not in str(place)


def temporary_of(place: Path) -> Path:
    """Name a file while it is written, different for each process, so that nobody can put another there before."""
    return place.with_name(f"{_PROCESS}.{place.name}.tmp")


def new_file(place: Path) -> Any:
    """Open a new file to write, readable by its owner only where that can be said."""
    return private_file(place) if is_local(place) else place.open("wb")


def make_durable(file: Any, place: Path) -> None:
    """Bring to the disk what was written; a store does it when the file is closed."""
    if is_local(place):
        file.flush()
        os.fsync(file.fileno())


def put_in_place(written: Path, place: Path) -> None:
    """Give a file its name, now that it is whole."""
    if is_local(place):
        written.replace(place)
        sync_folder(place.parent)
        return
    store = cast("Any", place)
    store.fs.copy(cast("Any", written).path, store.path)
    written.unlink()
