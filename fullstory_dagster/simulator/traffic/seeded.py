"""Random numbers and ids that depend on nothing but what they are named after."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_LOWEST_ID = 2**53 + 1
_HIGHEST_ID = 2**63 - 1


def _digest(parts: tuple[object, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=16).digest(), "big")


def rng_for(*parts: object) -> random.Random:
    """A generator that gives the same numbers for the same name on every machine."""
    return random.Random(_digest(parts))  # noqa: S311 - made-up traffic, no secrets


def id_for(*parts: object) -> int:
    """An id as FullStory gives them: int64, and here always above 2^53, where a float would lose digits."""
    return _LOWEST_ID + _digest(parts) % (_HIGHEST_ID - _LOWEST_ID)


def pick(rng: random.Random, weighted: Sequence[tuple[T, float]]) -> T:
    """One of several things, by weight."""
    at = rng.random() * sum(weight for _, weight in weighted)
    for thing, weight in weighted:
        at -= weight
        if at < 0:
            return thing
    return weighted[-1][0]
