"""What each of dbt's tests promises, in a sentence: dbt names a test after its arguments, and says no more."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Arguments = Mapping[str, Any]


def promise_of(test: Mapping[str, Any]) -> str | None:
    """The sentence of a test node of the manifest; its own description if it has one, None if nobody knows."""
    if test.get("description"):
        return str(test["description"])
    generic = test.get("test_metadata") or {}
    say = _SENTENCES.get(generic.get("name"))
    return say(generic["kwargs"]) if say else None


def _bounds(arguments: Arguments) -> str:
    parts = []
    for column, (least, most) in arguments["columns"].items():
        bounds = [f"{word} {bound}" for word, bound in (("at least", least), ("at most", most)) if bound is not None]
        parts.append(f"{column} {' and '.join(bounds)}")
    return f"Every value there is lies within its bounds: {', '.join(parts)}."


def _relationship(arguments: Arguments) -> str:
    [other] = re.findall(r"'(\w+)'", arguments["to"]) or [arguments["to"]]
    return f"Every {arguments['column_name']} there is stands in {other} as well, as {arguments['field']}."


_SENTENCES: dict[str | None, Callable[[Arguments], str]] = {
    "unique": lambda arguments: f"No two rows share a {arguments['column_name']}.",
    "not_null": lambda arguments: f"Every row has a {arguments['column_name']}.",
    "accepted_values": lambda arguments: (
        f"{arguments['column_name']} is one of {', '.join(map(str, arguments['values']))}."
    ),
    "relationships": _relationship,
    "are_in_range": _bounds,
    "starts_before": lambda arguments: f"{arguments['column_name']} is never after {arguments['end_column']}.",
    "is_numbered_from_one": lambda arguments: (
        f"{arguments['column_name']} is 1, 2, 3, … in each {arguments['group_column']}, without a gap or a repeat."
    ),
}
