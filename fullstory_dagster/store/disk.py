"""Room on the disk: asked for before it is needed, and told apart from other failures when it was not there."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from fullstory_dagster.errors import DiskFullError

MARGIN_BYTES = 64 << 20
"""Kept free beyond what is needed: for notes, locks, and everybody else on the machine."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def refuse_small_disk(folder: Path, n_bytes: int, what: str) -> None:
    """Stop before something is begun that the disk has no room for.

    Args:
        folder: on the disk; itself, or a folder above it, exists.
        n_bytes: about how many will be written.
        what: what needs them, as the subject of a sentence.

    Raises:
        DiskFullError: fewer are free, or hardly more.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < n_bytes + MARGIN_BYTES:
        raise DiskFullError(
            f"{what} needs about {_mb(n_bytes + MARGIN_BYTES)} on the disk of {there}, which has {_mb(free)} left; "
            "nothing was changed. Make room and try again."
        )


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or a quota, is full; engines say it in words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"
