"""Columns and custom variables that are excluded, hashed or cut short before anything but the raw bundle is written."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import polars as pl

from fullstory_dagster.fields import FIELDS_BY_NAME, LEGACY_NAMES
from fullstory_dagster.forgotten import privacy_hash
from fullstory_dagster.parse.json_text import Item, object_items, object_text, scalar_text

_COLUMNS_MEANT = {name.lower(): name for name in FIELDS_BY_NAME} | {
    old.lower(): column for old, column in LEGACY_NAMES.items()
}


@dataclass(frozen=True)
class PrivacyPolicy:
    """What is not kept as FullStory sent it.

    Attributes:
        exclude: columns and custom variables that become NULL or vanish.
        hash: text columns and custom variables that become HMAC-SHA256, 64 hex digits.
        hash_key: the key of the hashes.
        truncate_ip: PageIp keeps its first 24 bits (IPv6: 48).
    """

    exclude: frozenset[str] = frozenset()
    hash: frozenset[str] = frozenset()
    hash_key: str = ""
    truncate_ip: bool = False

    @property
    def is_on(self) -> bool:
        """Whether rows are changed at all; raw text of rejects is then not kept either."""
        return bool(self.exclude or self.hash or self.truncate_ip)

    def apply(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows as they may be stored; ids are computed before, from what FullStory sent."""
        if not self.is_on:
            return rows
        changes: list[pl.Expr] = []
        for name in self.exclude & FIELDS_BY_NAME.keys():
            changes.append(pl.lit(None, dtype=rows.schema[name]).alias(name))
        for name in self.hash & FIELDS_BY_NAME.keys():
            changes.append(_mapped(name, self._hashed))
        if self.truncate_ip and "PageIp" not in self.exclude | self.hash:
            changes.append(_mapped("PageIp", truncated_ip))
        return rows.with_columns(*changes, _mapped("CustomVars", self._without_private_variables))

    def _hashed(self, text: str) -> str:
        return privacy_hash(self.hash_key, text) if text else text

    def _without_private_variables(self, custom_vars: str) -> str | None:
        # A value that did not fit its column stands here under the column's name, an older spelling or one in another
        # case under its own: what is said of the column holds for all.
        kept: list[Item] = []
        for name, value in object_items(custom_vars.encode()):
            meant = _COLUMNS_MEANT.get(name.lower(), name)
            if meant in self.exclude:
                continue
            if meant in self.hash:
                kept.append((name, msgspec.json.encode(self._hashed(scalar_text(value)))))
            elif meant == "PageIp" and self.truncate_ip:
                continue
            else:
                kept.append((name, value))
        return object_text(kept)


def truncated_ip(text: str) -> str:
    """An address with its last octet (IPv6: last 80 bits) set to zero; what is no address becomes empty."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    network = ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False)
    return str(network.network_address)


def _mapped(name: str, function: Callable[[str], str | None]) -> pl.Expr:
    return pl.col(name).map_elements(function, return_dtype=pl.String, skip_nulls=True)
