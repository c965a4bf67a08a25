"""What only the disk can do to a run: be full, or not be writable. Asked beforehand, and told in sentences after."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from fullstory_dagster.errors import DiskFullError, FullStoryError, PermanentError

MARGIN_BYTES = 64 << 20
"""Kept free beyond what is needed: for notes, locks, and everybody else on the machine."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


def refuse_small_disk(folder: Path, n_bytes: int, what: str) -> None:
    """Stop before something is begun that the disk has no room for.

    Args:
        folder: on the disk; itself, or a folder above it, exists.
        n_bytes: about how many will be written.
        what: what needs them, as the subject of a sentence.

    Raises:
        DiskFullError: fewer are free, or hardly more.
    """
    there = _existing(folder)
    free = shutil.disk_usage(there).free
    if free < n_bytes + MARGIN_BYTES:
        raise DiskFullError(
            f"{what} needs about {_mb(n_bytes + MARGIN_BYTES)} on the disk of {there}, which has {_mb(free)} left; "
            "nothing was changed. Make room and try again."
        )


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder can be made."""
    return os.access(_existing(folder), os.W_OK | os.X_OK)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or a quota, is full; engines say it in words."""
    return _is(error, _FULL)


def disk_error(error: BaseException, what: str, path: Path | None = None) -> FullStoryError | None:
    """The error as a sentence of ours if it is the disk's, else None.

    Args:
        error: raised by Python, polars or DuckDB.
        what: what did not happen, as a sentence.
        path: on which disk, unless the error knows.
    """
    where = (error.filename2 or error.filename if isinstance(error, OSError) else None) or path
    if is_disk_full(error):
        disk = f"the disk of {where}" if where else "the disk"
        return DiskFullError(f"{what}: {disk} is full; what was there before is unchanged. Make room and try again.")
    if _is(error, _NOT_WRITABLE):
        return PermanentError(
            f"{what}: {where or 'a file'} cannot be written; what was there before is unchanged. FULLSTORY_DATA_DIR "
            "has to be writable, and so have FULLSTORY_STORE_URL and FULLSTORY_WAREHOUSE if they are elsewhere.",
            setting="FULLSTORY_DATA_DIR",
        )
    return None


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _is(error: BaseException, numbers: tuple[int, ...]) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in numbers
    # polars and DuckDB have no class of error for it. What the kernel said stands at the end of their first line; what
    # stands in quotes elsewhere may be out of somebody's event.
    said = str(error).strip().partition("\n")[0]
    return any(said.endswith((os.strerror(number), f"(os error {number})")) for number in numbers)


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"
