"""How often the tests do what could be done for ever: a little in every run, the whole of it under `make soak`."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

IS_SOAK = bool(os.environ.get("FULLSTORY_TESTS_SOAK"))


def count(reduced: T, *, full: T) -> T:
    """The number, or the cases, that suit the run."""
    return full if IS_SOAK else reduced
