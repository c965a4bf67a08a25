"""Settings: read once, from the environment and ``.env``, checked at once, immutable after.

``SETTINGS`` is their only list: the reader, the ``.env`` that ``init`` writes and the table in the README are made
from it. The environment wins over ``.env``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dotenv import dotenv_values

from fullstory_dagster.errors import SettingsError
from fullstory_dagster.fields import CUSTOM_VARIABLE_KINDS, FIELDS, FIELDS_BY_NAME
from fullstory_dagster.windows import WINDOW_HOURS, WindowGrid

ExportApi = Literal["segment", "bundle"]

_USER_INFO = re.compile(r"//[^/]*@")
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


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: environment variable.
        attribute: attribute of :class:`Settings`.
        default: as it stands in the README.
        meaning: one line.
        read: text to value; a ``ValueError`` says what is allowed.
        is_secret: the value never appears in a message.
    """

    name: str
    attribute: str
    default: str
    meaning: str
    read: Callable[[str], Any]
    is_secret: bool = False


def _read_secret(text: str) -> str:
    if not re.fullmatch(r"(?!['\"])[!-~]+(?<!['\"])", text):
        raise ValueError("must be printable ASCII without spaces and without quotes around it; copy it again")
    return text


def _read_url(text: str) -> str:
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


def _read_choice(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


def _read_whole_number(low: int, high: int, unit: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number of {unit} from {low} to {high}")
        return int(text)

    return read


def _read_window_hours(text: str) -> int:
    if not text.isdecimal() or int(text) not in WINDOW_HOURS:
        raise ValueError(f"must be one of {', '.join(map(str, WINDOW_HOURS))}")
    return int(text)


def _read_start(text: str) -> datetime:
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


def _read_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names {', '.join(twice)} twice; every name may stand once")
    return names


def _is_custom_variable(name: str) -> bool:
    return name.startswith(("user_", "evt_", "page_"))


def _read_fields(text: str) -> tuple[str, ...]:
    names = _read_names(text)
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


def _read_columns(text: str) -> tuple[str, ...]:
    names = _read_names(text)
    required = [name for name in names if name in FIELDS_BY_NAME and FIELDS_BY_NAME[name].is_required]
    if required:
        raise ValueError(f"names {', '.join(required)}, which every row must keep")
    unknown = [name for name in names if name not in FIELDS_BY_NAME and not _is_custom_variable(name)]
    if unknown:
        raise ValueError(f"names {', '.join(unknown)}; allowed are columns of events and names of custom variables")
    return names


def _read_hash_columns(text: str) -> tuple[str, ...]:
    names = _read_columns(text)
    not_text = [name for name in names if name in FIELDS_BY_NAME and FIELDS_BY_NAME[name].type != "string"]
    if not_text:
        raise ValueError(f"names {', '.join(not_text)}; only text can be hashed, exclude the column instead")
    return names


def _read_flag(text: str) -> bool:
    if text.lower() not in ("0", "1", "false", "true", "no", "yes"):
        raise ValueError("must be 1 or 0")
    return text.lower() in ("1", "true", "yes")


def _read_schedule(text: str) -> str:
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


def _read_timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ValueError("must be an IANA time zone such as Europe/Berlin") from None
    return text


def _read_path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _read_store(text: str) -> Path:
    if "://" in text:
        raise ValueError("must be a folder; object stores are not supported yet")
    return _read_path(text)


def _read_warehouse(text: str) -> Path:
    if re.match(r"(ducklake|md|motherduck|postgres|s3):", text):
        raise ValueError("must be the path of a DuckDB file; lakes and MotherDuck are not supported yet")
    path = _read_path(text)
    if path.suffix not in (".duckdb", ".db", ".ddb"):
        raise ValueError("must be the path of a DuckDB file that ends in .duckdb, .ddb or .db")
    return path


def _read_schema(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", text):
        raise ValueError("must be letters, digits and underscores, not starting with a digit")
    if text.lower() in _DUCKDBS_OWN:
        raise ValueError(f"must be none of DuckDB's own names ({', '.join(_DUCKDBS_OWN)})")
    return text


def _read_org_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+", text):
        raise ValueError("must be the organisation's id as it stands in FullStory's URLs, such as o-1ABC-na1")
    return text


def _read_memory(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?\s?([KMGT]i?B)", text):
        raise ValueError("must be a size with its unit, such as 2GB")
    return text


def _read_segment(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,200}", text):
        raise ValueError("must be a segment's id as FullStory shows it, or everyone")
    return text


def _not_yet(text: str) -> None:
    raise ValueError("is not supported yet; remove the setting, events and Parquet are kept for ever")


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "FULLSTORY_API_KEY",
        "api_key",
        "none",
        "API key of the account; without one only the demo runs. Never printed, logged or stored.",
        _read_secret,
        is_secret=True,
    ),
    Setting("FULLSTORY_API_URL", "api_url", "from the key's data centre", "Base URL of FullStory's API.", _read_url),
    Setting(
        "FULLSTORY_EXPORT_API",
        "export_api",
        "segment",
        "`segment` (segment export) or `bundle` (the older Data Export pack).",
        _read_choice("segment", "bundle"),
    ),
    Setting("FULLSTORY_SEGMENT_ID", "segment_id", "everyone", "Segment whose events are exported.", _read_segment),
    Setting(
        "FULLSTORY_FIELDS",
        "fields",
        "all",
        "Fields to ask for, separated by commas; `user_*`, `evt_*` and `page_*` stand for custom variables.",
        _read_fields,
    ),
    Setting(
        "FULLSTORY_START_DATE",
        "start",
        "one year back, fixed by `init`",
        "Start of the first window, UTC.",
        _read_start,
    ),
    Setting("FULLSTORY_BUNDLE_HOURS", "bundle_hours", "24", "Length of a window, hours.", _read_window_hours),
    Setting(
        "FULLSTORY_DELAY_HOURS",
        "delay_hours",
        "24",
        "How long after its end a window is fetched, hours; before 24 it is fetched again once settled.",
        _read_whole_number(0, 24 * 30, "hours"),
    ),
    Setting(
        "FULLSTORY_SCHEDULE",
        "schedule",
        "none",
        "Cron line, or `every 6h at 03:15`; loads at these times and stops the sensor by default.",
        _read_schedule,
    ),
    Setting(
        "FULLSTORY_SCHEDULE_TIMEZONE", "schedule_timezone", "UTC", "Time zone of the schedule (IANA).", _read_timezone
    ),
    Setting(
        "FULLSTORY_DATA_DIR",
        "data_dir",
        "data",
        "Local folder of the warehouse, its snapshot, locks, dbt's target and Dagster's home.",
        _read_path,
    ),
    Setting("FULLSTORY_STORE_URL", "store_dir", "the data dir", "Folder of raw bundles and Parquet.", _read_store),
    Setting(
        "FULLSTORY_SNAPSHOT_MINUTES",
        "snapshot_minutes",
        "60",
        "The read snapshot is renewed at most this often, minutes; 0 never makes one.",
        _read_whole_number(0, 60 * 24 * 7, "minutes"),
    ),
    Setting(
        "FULLSTORY_WAREHOUSE", "warehouse", "`<data dir>/warehouse.duckdb`", "Path of the DuckDB file.", _read_warehouse
    ),
    Setting("FULLSTORY_SCHEMA", "schema", "fullstory", "Schema of every table.", _read_schema),
    Setting(
        "FULLSTORY_EXCLUDE_COLUMNS",
        "exclude_columns",
        "none",
        "Columns and custom variables that are never stored; the column stays, empty.",
        _read_columns,
    ),
    Setting(
        "FULLSTORY_HASH_COLUMNS",
        "hash_columns",
        "none",
        "Text columns and custom variables stored as HMAC-SHA256.",
        _read_hash_columns,
    ),
    Setting("FULLSTORY_HASH_KEY", "hash_key", "none", "Secret key of the hashes.", _read_secret, is_secret=True),
    Setting(
        "FULLSTORY_TRUNCATE_IP",
        "truncate_ip",
        "0",
        "1 stores IP addresses without their last octet (IPv6: last 80 bits).",
        _read_flag,
    ),
    Setting(
        "FULLSTORY_KEEP_BUNDLES_DAYS",
        "keep_bundles_days",
        "for ever",
        "Raw bundles of loaded, settled windows older than this many days are deleted.",
        _read_whole_number(1, 36500, "days"),
    ),
    Setting("FULLSTORY_KEEP_EVENTS_DAYS", "keep_events_days", "for ever", "Reserved; refused for now.", _not_yet),
    Setting("FULLSTORY_ORG_ID", "org_id", "none", "Organisation id; makes replay links.", _read_org_id),
    Setting(
        "FULLSTORY_JOBS",
        "jobs",
        "4",
        "How many windows are fetched or parsed at a time.",
        _read_whole_number(1, 64, "windows"),
    ),
    Setting(
        "FULLSTORY_DOWNLOADS_PER_MINUTE",
        "downloads_per_minute",
        "2",
        "Bundle downloads the older API grants the account a minute; 0 is no limit.",
        _read_whole_number(0, 6000, "downloads"),
    ),
    Setting(
        "FULLSTORY_LOCK_TIMEOUT_S",
        "lock_timeout_s",
        "600",
        "How long to wait for somebody else who holds the warehouse, seconds.",
        _read_whole_number(0, 86400, "seconds"),
    ),
    Setting(
        "FULLSTORY_DUCKDB_MEMORY_LIMIT",
        "duckdb_memory_limit",
        "2GB",
        "DuckDB's memory limit for loads and models.",
        _read_memory,
    ),
    Setting(
        "FULLSTORY_DUCKDB_THREADS",
        "duckdb_threads",
        "one per core",
        "DuckDB's threads for loads and models.",
        _read_whole_number(1, 256, "threads"),
    ),
)


@dataclass(frozen=True)
class Settings:
    """What a run needs to know. See ``SETTINGS`` for the meaning of each.

    Secrets are left out of ``repr``. Times are aware UTC; paths are absolute.
    """

    start: datetime
    data_dir: Path = field(default_factory=lambda: Path("data").absolute())
    store_dir: Path = None  # type: ignore[assignment]  # filled in below: the data dir
    warehouse: Path = None  # type: ignore[assignment]  # filled in below: <data dir>/warehouse.duckdb
    api_key: str | None = field(default=None, repr=False)
    api_url: str | None = None
    export_api: ExportApi = "segment"
    segment_id: str = "everyone"
    fields: tuple[str, ...] = ()
    bundle_hours: int = 24
    delay_hours: int = 24
    schedule: str | None = None
    schedule_timezone: str = "UTC"
    snapshot_minutes: int = 60
    schema: str = "fullstory"
    exclude_columns: tuple[str, ...] = ()
    hash_columns: tuple[str, ...] = ()
    hash_key: str | None = field(default=None, repr=False)
    truncate_ip: bool = False
    keep_bundles_days: int | None = None
    org_id: str | None = None
    jobs: int = 4
    downloads_per_minute: int = 2
    lock_timeout_s: int = 600
    duckdb_memory_limit: str = "2GB"
    duckdb_threads: int | None = None

    def __post_init__(self) -> None:
        if self.store_dir is None:
            object.__setattr__(self, "store_dir", self.data_dir)
        if self.warehouse is None:
            object.__setattr__(self, "warehouse", self.data_dir / "warehouse.duckdb")
        self._check_together()

    def _check_together(self) -> None:
        # DuckDB names the catalog after the file, up to the first dot.
        if self.warehouse.name.split(".")[0].lower() == self.schema.lower():
            raise SettingsError(
                "FULLSTORY_SCHEMA",
                f"is {self.schema!r}, which is also what DuckDB calls the file {self.warehouse.name}: "
                f"{self.schema}.events would be ambiguous; rename one of them.",
            )
        if self.hash_columns and not self.hash_key:
            raise SettingsError(
                "FULLSTORY_HASH_KEY", "is not set, but FULLSTORY_HASH_COLUMNS asks for hashes; set a long random text."
            )
        both = sorted(set(self.hash_columns) & set(self.exclude_columns))
        if both:
            raise SettingsError(
                "FULLSTORY_HASH_COLUMNS",
                f"names {', '.join(both)}, which FULLSTORY_EXCLUDE_COLUMNS names as well; keep one.",
            )
        if self.start != self.grid.align(self.start):
            raise SettingsError(
                "FULLSTORY_START_DATE",
                f"is {self.start:%Y-%m-%dT%H:%M:%SZ}, but windows of {self.bundle_hours} h begin at multiples of "
                f"{self.bundle_hours} h from midnight UTC; move it to one.",
            )

    @property
    def grid(self) -> WindowGrid:
        """The account's windows."""
        return WindowGrid(first=self.start, hours=self.bundle_hours, delay_hours=self.delay_hours)

    @property
    def dagster_home(self) -> Path:
        """Dagster's own storage."""
        return self.data_dir / "dagster"

    @property
    def app_url(self) -> str:
        """FullStory's replay app in the account's data centre."""
        is_eu = (self.api_key or "").startswith("eu1.") or ".eu1." in (self.api_url or "")
        return "https://app.eu1.fullstory.com" if is_eu else "https://app.fullstory.com"

    @property
    def shaping(self) -> dict[str, Any]:
        """The settings that shape rows, as they are written into the load log; without secrets."""
        return {
            "export_api": self.export_api,
            "segment_id": self.segment_id if self.export_api == "segment" else None,
            "fields": list(self.fields) if self.export_api == "segment" else [],
            "bundle_hours": self.bundle_hours,
            "exclude_columns": sorted(self.exclude_columns),
            "hash_columns": sorted(self.hash_columns),
            "truncate_ip": self.truncate_ip,
        }

    def require_api_key(self) -> str:
        """The API key.

        Raises:
            SettingsError: there is none.
        """
        if self.api_key is None:
            raise _no_api_key()
        return self.api_key

    def with_changes(self, **changes: Any) -> Settings:
        """A copy with some settings changed, checked again."""
        return replace(self, **changes)


def read_settings(
    environ: Mapping[str, str] | None = None, dotenv: Path | None = None, *, default_start: datetime | None = None
) -> Settings:
    """Read and check all settings.

    Args:
        environ: environment, by default the process's own.
        dotenv: path of the ``.env`` file, by default the one in the working directory; it need not exist.
        default_start: start date while none is set, for ``init``, which fixes it.

    Raises:
        SettingsError: the first setting that is wrong, with what was given and what is allowed.
    """
    environ = os.environ if environ is None else environ
    from_file = dotenv_values(dotenv or Path(".env"), interpolate=False)
    _refuse_unknown({name for name in (*from_file, *environ) if name.startswith("FULLSTORY_")})
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text = (environ.get(setting.name) or from_file.get(setting.name) or "").strip()
        if not text:
            continue
        try:
            values[setting.attribute] = setting.read(text)
        except ValueError as error:
            # A URL may carry a password.
            shown = _USER_INFO.sub("//***@", text)
            given = "is set, but" if setting.is_secret else f"is {shown!r}, but"
            raise SettingsError(setting.name, f"{given} {error}.") from None
    if "start" not in values and default_start is None:
        if "api_key" not in values:
            raise _no_api_key()
        raise SettingsError(
            "FULLSTORY_START_DATE",
            "is not set; run 'fullstory-dagster init', which fixes it, or set the first day to load, e.g. 2026-06-01.",
        )
    return Settings(**({"start": default_start} | values))


def _no_api_key() -> SettingsError:
    return SettingsError(
        "FULLSTORY_API_KEY",
        "is not set; run 'fullstory-dagster init' to connect an account, or 'fullstory-dagster demo' to try everything "
        "without one.",
    )


def settings_exist(environ: Mapping[str, str] | None = None, dotenv: Path | None = None) -> bool:
    """Whether an account is connected at all: there is an API key, right or wrong."""
    environ = os.environ if environ is None else environ
    return bool(environ.get("FULLSTORY_API_KEY") or dotenv_values(dotenv or Path(".env")).get("FULLSTORY_API_KEY"))


NOT_SETTINGS = frozenset({"FULLSTORY_APP_URL"})
"""Variables with the prefix that we hand to dbt ourselves."""


def _refuse_unknown(names: set[str]) -> None:
    known = {setting.name for setting in SETTINGS} | NOT_SETTINGS
    # Other tools may have variables with this prefix; a slip of the pen looks like one of ours.
    for name in sorted(names - known):
        meant = get_close_matches(name, known, n=1, cutoff=0.85)
        if meant:
            raise SettingsError(name, f"is no setting; {meant[0]} may be meant.")
