"""The text of one setting to its value.

Each function raises ``ValueError`` with what is allowed, as the end of a sentence that begins with the setting's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from fullstory_dagster.fields import CUSTOM_VARIABLE_KINDS, FIELDS, FIELDS_BY_NAME
from fullstory_dagster.windows import WINDOW_HOURS

_USER_INFO = re.compile(r"//.*@")
_OBJECT_STORE = re.compile(
    r"""(?:
        (?: s3 | gs | az | abfss? ) :// [A-Za-z0-9][A-Za-z0-9._-]*
        | abfss? :// [a-z0-9][a-z0-9-]* @ [a-z0-9]+ \.dfs\.core\.windows\.net
    )
    (?: / [A-Za-z0-9_=+-][A-Za-z0-9._=+-]* )* /?
    """,
    re.VERBOSE,
)
_DUCKDBS_OWN = ("information_schema", "pg_catalog", "system", "temp")

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

_CRON_FIELDS = (
    (0, 59, ""),
    (0, 23, ""),
    (1, 31, ""),
    (1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    (0, 7, "sun mon tue wed thu fri sat"),
)

ANCHORED_SCHEDULE = re.compile(r"every (?P<hours>\d{1,2})h at (?P<hour>\d{1,2}):(?P<minute>\d{2})")


def read_secret(text: str) -> str:
    """A key: printable ASCII, no blanks."""
    if not re.fullmatch(r"(?!['\"])[!-~]+(?<!['\"])", text):
        raise ValueError("must be printable ASCII without spaces and without quotes around it; copy it again")
    return text


def read_alert_urls(text: str) -> tuple[str, ...]:
    """Addresses in Apprise's manner, separated by blanks, because commas may stand in one."""
    urls = tuple(text.split())
    if not all(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", url) for url in urls):
        raise ValueError("must be addresses such as slack://…, mailto://… or json://…, separated by blanks")
    return urls


def read_url(text: str) -> str:
    """A base URL: https, or http to this machine; no slash at its end."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("must be an https URL, such as https://api.fullstory.com") from None
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        raise ValueError("must be an https URL; plain http is allowed for this machine only")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an https URL without a query, such as https://api.fullstory.com")
    if parts.username or parts.password:
        raise ValueError("must not hold a user name or password")
    return text.rstrip("/")


def read_choice(*choices: str) -> Callable[[str], str]:
    """A reader of one of some words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


def read_whole_number(low: int, high: int, unit: str) -> Callable[[str], int]:
    """A reader of a whole number within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number of {unit} from {low} to {high}")
        return int(text)

    return read


def read_window_hours(text: str) -> int:
    """The length of a window, hours."""
    if not text.isdecimal() or int(text) not in WINDOW_HOURS:
        raise ValueError(f"must be one of {', '.join(map(str, WINDOW_HOURS))}")
    return int(text)


def read_instant(text: str) -> datetime:
    """A date, which is its midnight, or an RFC 3339 time; UTC, aware."""
    allowed = "must be a date such as 2026-06-01, or a UTC time such as 2026-06-01T12:00:00Z"
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            start = datetime.combine(date.fromisoformat(text), datetime.min.time(), timezone.utc)
        else:
            start = datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    except ValueError:
        raise ValueError(allowed) from None
    if start.utcoffset() is None or start.utcoffset() or start.year < 2000:
        raise ValueError(allowed)
    return start


def read_names(text: str) -> tuple[str, ...]:
    """Names separated by commas, each once."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names {', '.join(twice)} twice; every name may stand once")
    return names


def _is_custom_variable(name: str) -> bool:
    return name.startswith(("user_", "evt_", "page_"))


def read_fields(text: str) -> tuple[str, ...]:
    """What to ask FullStory for: fields, kinds of custom variables, single custom variables."""
    names = read_names(text)
    unknown = [name for name in names if name not in FIELDS_BY_NAME and not _is_custom_variable(name)]
    if unknown:
        raise ValueError(
            f"names {', '.join(unknown)}; allowed are FullStory's fields, {', '.join(CUSTOM_VARIABLE_KINDS)} "
            "and names of custom variables"
        )
    missing = [f.name for f in FIELDS if f.is_required and f.name not in names]
    if names and missing:
        raise ValueError(f"leaves out {', '.join(missing)}, without which no event can be told from another")
    return names


def read_columns(text: str) -> tuple[str, ...]:
    """Columns of events and custom variables that a row can do without."""
    names = read_names(text)
    required = [name for name in names if name in FIELDS_BY_NAME and FIELDS_BY_NAME[name].is_required]
    if required:
        raise ValueError(f"names {', '.join(required)}, which every row must keep")
    unknown = [name for name in names if name not in FIELDS_BY_NAME and not _is_custom_variable(name)]
    if unknown:
        raise ValueError(f"names {', '.join(unknown)}; allowed are columns of events and names of custom variables")
    return names


def read_hash_columns(text: str) -> tuple[str, ...]:
    """The same, text only."""
    names = read_columns(text)
    not_text = [name for name in names if name in FIELDS_BY_NAME and FIELDS_BY_NAME[name].type != "string"]
    if not_text:
        raise ValueError(f"names {', '.join(not_text)}; only text can be hashed, exclude the column instead")
    return names


def read_flag(text: str) -> bool:
    """1 or 0, true or false, yes or no."""
    if text.lower() not in ("0", "1", "false", "true", "no", "yes"):
        raise ValueError("must be 1 or 0")
    return text.lower() in ("1", "true", "yes")


def read_schedule(text: str) -> str:
    """A cron line of five fields, or an anchored schedule."""
    anchored = ANCHORED_SCHEDULE.fullmatch(text)
    allowed = "must be a cron line of five fields such as '15 3 * * *', or 'every 6h at 03:15'"
    if anchored:
        hours, hour, minute = (int(anchored[name]) for name in ("hours", "hour", "minute"))
        if hours not in WINDOW_HOURS or hour > 23 or minute > 59:
            raise ValueError(f"{allowed} with {', '.join(map(str, WINDOW_HOURS))} hours")
    elif not _is_cron(text):
        raise ValueError(allowed)
    return text


def _is_cron(text: str) -> bool:
    fields = text.split(" ")
    return len(fields) == len(_CRON_FIELDS) and all(
        re.fullmatch(r"(\*|\w+(-\w+)?)(/[1-9]\d?)?", part, re.ASCII)
        and all(_is_cron_value(value, *allowed) for value in re.findall(r"\w+", part.split("/")[0]))
        for field_text, allowed in zip(fields, _CRON_FIELDS, strict=True)
        for part in field_text.split(",")
    )


def _is_cron_value(value: str, low: int, high: int, names: str) -> bool:
    return low <= int(value) <= high if value.isdecimal() else value.lower() in names.split()


def read_timezone(text: str) -> str:
    """An IANA time zone, by name."""
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ValueError("must be an IANA time zone such as Europe/Berlin") from None
    return text


def read_path(text: str) -> Path:
    """A path, made absolute."""
    return Path(text).expanduser().absolute()


def redacted_url(text: str) -> str:
    """What was given, without the parts of a URL in which a password or a token may stand."""
    return re.sub(r"([?#]).*", r"\1***", _USER_INFO.sub("//***@", text), flags=re.DOTALL) if "://" in text else text


def read_store(text: str) -> Path | str:
    """Where bundles and Parquet are: a folder, or the URL of a place in an object store, without a slash at its end."""
    if "://" not in text:
        return read_path(text)
    if not _OBJECT_STORE.fullmatch(text):
        raise ValueError(
            "must be a folder, or s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or "
            "abfss://container@account.dfs.core.windows.net/prefix, of letters, digits and ._-=+, without credentials: "
            "these come from the environment"
        )
    return text.rstrip("/")


def read_schema(text: str) -> str:
    """A schema, as DuckDB takes it without quotes."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", text):
        raise ValueError("must be letters, digits and underscores, not starting with a digit")
    if text.lower() in _DUCKDBS_OWN:
        raise ValueError(f"must be none of DuckDB's own names ({', '.join(_DUCKDBS_OWN)})")
    return text


def read_org_id(text: str) -> str:
    """An organisation's id."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", text):
        raise ValueError("must be the organisation's id as it stands in FullStory's URLs, such as o-1ABC-na1")
    return text


def read_memory(text: str) -> str:
    """A size with its unit."""
    if not re.fullmatch(r"\d+(\.\d+)?\s?([KMGT]i?B)", text):
        raise ValueError("must be a size with its unit, such as 2GB")
    return text


def smaller_memory(one: str, other: str) -> str:
    """The smaller of two sizes that :func:`read_memory` takes."""

    def size(text: str) -> float:
        number, unit = text[:-2].rstrip("KMGT "), text.lstrip("0123456789. ")
        return float(number) * (1024.0 if "i" in unit else 1000.0) ** ("KMGT".index(unit[0]) + 1)

    return min(one, other, key=size)


def read_segment(text: str) -> str:
    """A segment's id."""
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,200}", text):
        raise ValueError("must be a segment's id as FullStory shows it, or everyone")
    return text
