"""What is said when a folder of this machine cannot be used: which, how much room is left there, what to do."""

import shutil
from pathlib import Path

from callstream.streams.wire import LogUnavailable


class DiskUnusable(LogUnavailable):
    """The local copy of a table cannot be opened, read or written; the message says where, why and what to do.

    As with a log that takes nothing, what could not be kept must not be acknowledged, and the worker ends.
    """


def unusable(table: str, folder: Path, error: BaseException) -> DiskUnusable:
    """The failure of a table's copy in `folder`, from what its database said."""
    room = f"{free_bytes(folder):,} bytes are free there"
    return DiskUnusable(
        f"{table}: {folder} cannot be used ({error}; {room}). Nothing was acknowledged that is not on the log: "
        "make room, or delete that folder, then start the worker again: tables are read back from their changelogs"
    )


def free_bytes(folder: Path) -> int:
    """Bytes free for this process on the file system that holds `folder`, which need not be there any more."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
