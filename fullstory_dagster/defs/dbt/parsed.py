"""What is made of the dbt project's files, kept until one of them changes: to parse it takes longer than a small build.

It stands beside the project, where that can be written to, for all accounts of the machine and in an image; else in the
account's own folder. Its name is a hash of all it was made of, so it is never stale and is not written twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from fullstory_dagster.disk import is_writable

T = TypeVar("T")

PROJECT_DIR = Path(__file__).resolve().parents[3] / "dbt_project"

_SUFFIXES = (".sql", ".yml", ".csv", ".md")
_KEPT = 30
"""States of each kind, about two megabytes each: an account of another schema, or a file edited, is one more."""


def kept(what: str, names: tuple[str, ...], own: Path, *, make: Callable[[Path], None], read: Callable[[Path], T]) -> T:
    """What is made of the project as it is now, made if it is not there or cannot be read.

    Args:
        what: is made.
        names: what else goes into it.
        own: folder of the account.
        make: makes it, in a folder that it is given and that is not there yet. What it raises is raised, nothing kept.
        read: takes it from such a folder.

    Returns:
        What ``read`` gives.
    """
    place = _made(what, names, own, make)
    try:
        return read(place)
    except Exception:
        # A failing disk, or somebody who made newer ones has deleted it meanwhile.
        shutil.rmtree(place, ignore_errors=True)
        return read(_made(what, names, own, make))


def _made(what: str, names: tuple[str, ...], own: Path, make: Callable[[Path], None]) -> Path:
    state = _state(names)
    places = [folder / what for folder in (PROJECT_DIR / "target", own)]
    for place in places:
        if (place / state).exists():
            return place / state
    place = next((place for place in places if is_writable(place)), places[-1])
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / ".lock"):
        if not (place / state).exists():
            scratch = place / f".{os.getpid()}"
            try:
                make(scratch)
                _sync(scratch)
                scratch.rename(place / state)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            _delete_old(place)
    return place / state


def _sync(folder: Path) -> None:
    # A power cut must not leave the name and not the bytes.
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _state(names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    texts = [version("dbt-core").encode(), version("dbt-duckdb").encode(), *(name.encode() for name in names)]
    for path in sorted(path for path in PROJECT_DIR.rglob("*") if path.suffix in _SUFFIXES):
        place = path.relative_to(PROJECT_DIR)
        if not {"target", "logs"} & set(place.parts):
            texts += [str(place).encode(), path.read_bytes()]
    for text in texts:
        digest.update(b"%d:%b" % (len(text), text))
    return digest.hexdigest()[:16]


def _delete_old(place: Path) -> None:
    states = sorted((path for path in place.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in states[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)
