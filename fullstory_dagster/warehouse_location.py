"""Where the warehouse is, as ``FULLSTORY_WAREHOUSE`` names it: a DuckDB file, a DuckLake, or MotherDuck.

A file is a plain path. None of the others shows a password, whatever it is printed by.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

LAKE_PREFIX = "ducklake:postgres:"
LAKE_ALIAS = "lake"
"""What a lake's catalog is called in SQL: views keep the name, so everybody has to attach it under this one."""

_SHOWN = ("host", "hostaddr", "port", "dbname", "user", "service")
_SECRET = ("password", "sslpassword")
_PAIR = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)\s*", re.DOTALL)
_MOTHERDUCK = re.compile(r"(?:md|motherduck):([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True)
class LakeCatalog:
    """A DuckLake whose catalog is a PostgreSQL database.

    Attributes:
        parameters: of the connection to PostgreSQL, by libpq's names; what is absent libpq takes from its own places.
    """

    parameters: dict[str, str] = field(repr=False, hash=False)

    def __str__(self) -> str:
        shown = " ".join(f"{name}={self.parameters[name]}" for name in _SHOWN if name in self.parameters)
        return f"{LAKE_PREFIX}{shown}"

    def __repr__(self) -> str:
        return f"LakeCatalog({str(self)!r})"

    @property
    def password(self) -> str | None:
        """The password, if it stands in the setting."""
        return self.parameters.get("password")

    @property
    def conninfo(self) -> str:
        """The connection for libpq, without passwords: these go another way, because DuckDB shows what it attached."""
        kept = {name: value for name, value in self.parameters.items() if name not in _SECRET}
        return " ".join(f"{name}={_quoted(value)}" for name, value in kept.items())

    @property
    def catalog_name(self) -> str:
        """What DuckDB calls it."""
        return LAKE_ALIAS


@dataclass(frozen=True)
class MotherDuckDatabase:
    """A database at MotherDuck; its token is in ``motherduck_token``, which MotherDuck's extension reads itself."""

    name: str

    def __str__(self) -> str:
        return f"md:{self.name}"

    @property
    def catalog_name(self) -> str:
        """What DuckDB calls it."""
        return self.name


WarehouseLocation = Path | LakeCatalog | MotherDuckDatabase


def catalog_name(location: WarehouseLocation) -> str:
    """What DuckDB calls the database in SQL; a file's name up to the first dot."""
    return location.name.split(".")[0] if isinstance(location, Path) else location.catalog_name


def read_location(text: str) -> WarehouseLocation:
    """A setting's text to its value.

    Raises:
        ValueError: it is none, with what is allowed; never with what was given.
    """
    if text.startswith(LAKE_PREFIX):
        return LakeCatalog(_parameters(text.removeprefix(LAKE_PREFIX)))
    if text.startswith("ducklake:"):
        raise ValueError("must name the lake's catalog in PostgreSQL, such as ducklake:postgres:dbname=lake host=db")
    if text.startswith(("md:", "motherduck:")):
        named = _MOTHERDUCK.fullmatch(text)
        if not named:
            raise ValueError("must be md: and the name of a database; the token belongs into motherduck_token")
        return MotherDuckDatabase(named[1])
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text):
        raise ValueError("must be the path of a DuckDB file, ducklake:postgres:… or md:…")
    path = Path(text).expanduser().absolute()
    if path.suffix not in (".duckdb", ".db", ".ddb"):
        raise ValueError("must be the path of a DuckDB file that ends in .duckdb, .ddb or .db, or ducklake:… or md:…")
    return path


def _parameters(conninfo: str) -> dict[str, str]:
    if conninfo.startswith(("postgresql://", "postgres://")):
        return _parameters_of_url(conninfo)
    parameters: dict[str, str] = {}
    at = 0
    while at < len(conninfo):
        pair = _PAIR.match(conninfo, at)
        if not pair:
            raise ValueError("must go on behind ducklake:postgres: with libpq's key=value pairs, or its URL")
        value = pair[2][1:-1] if pair[2].startswith("'") else pair[2]
        parameters[pair[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        at = pair.end()
    return parameters


def _parameters_of_url(url: str) -> dict[str, str]:
    try:
        parts = urlsplit(url)
        found = {
            "host": parts.hostname,
            "port": str(parts.port) if parts.port else None,
            "user": parts.username,
            "password": parts.password,
            "dbname": parts.path.removeprefix("/"),
        }
    except ValueError:
        raise ValueError("must be ducklake:postgres: and a URL such as postgresql://user@host:5432/lake") from None
    return {name: unquote(value) for name, value in found.items() if value} | dict(parse_qsl(parts.query))


def _quoted(value: str) -> str:
    if re.fullmatch(r"[^\s'\\]+", value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
