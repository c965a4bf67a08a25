"""Fields that got a column after they had been loaded: from the text of CustomVars to what a new parse would give."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fullstory_dagster.fields import Field
from fullstory_dagster.parse.json_text import Item, object_items, object_text
from fullstory_dagster.parse.rows import read_value


def promote_fields(custom_vars: str, fields: Sequence[Field]) -> tuple[list[Any], str | None]:
    """Take some fields out of a row's custom variables, by the rules by which a row is read.

    Args:
        custom_vars: text of the JSON object.
        fields: what has a column now and had none when the row was parsed.

    Returns:
        tuple: values in the order of ``fields`` (times naive UTC; None for what is absent or does not fit), and the
            text of what is left, None for nothing. What does not fit its column stays in the text as it was sent.
    """
    items = object_items(custom_vars.encode())
    last = {name: position for position, (name, _) in enumerate(items)}
    by_name = {field.name: field for field in fields}
    values: dict[str, Any] = {}
    kept: list[Item] = []
    for position, (name, text) in enumerate(items):
        if name not in by_name or last[name] != position:
            kept.append((name, text))
            continue
        value, is_whole = read_value(text, by_name[name].type)
        if value is not None and by_name[name].type == "timestamp":
            value = datetime.fromisoformat(value.removesuffix("Z"))
        values[name] = value
        if not is_whole:
            kept.append((name, text))
    return [values.get(field.name) for field in fields], object_text(kept)
