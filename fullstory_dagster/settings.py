"""Settings: read once, from the environment and ``.env``, checked at once, immutable after.

``SETTINGS`` is their only list: the reader, the ``.env`` that ``init`` writes and the table in the README are made
from it. The environment wins over ``.env``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values

from fullstory_dagster import setting_values as values
from fullstory_dagster.errors import SettingsError
from fullstory_dagster.fields import FIELD_LIST_ID
from fullstory_dagster.warehouse_location import LakeCatalog, WarehouseLocation, catalog_name, read_location
from fullstory_dagster.windows import WindowGrid

ExportApi = Literal["segment", "bundle"]


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


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "FULLSTORY_API_KEY",
        "api_key",
        "none",
        "API key of the account; without one only the demo runs. Never printed, logged or sent to another host.",
        values.read_secret,
        is_secret=True,
    ),
    Setting(
        "FULLSTORY_API_URL", "api_url", "from the key's data centre", "Base URL of FullStory's API.", values.read_url
    ),
    Setting(
        "FULLSTORY_EXPORT_API",
        "export_api",
        "segment",
        "`segment` (segment export) or `bundle` (the older Data Export pack).",
        values.read_choice("segment", "bundle"),
    ),
    Setting(
        "FULLSTORY_SEGMENT_ID", "segment_id", "everyone", "Segment whose events are exported.", values.read_segment
    ),
    Setting(
        "FULLSTORY_FIELDS",
        "fields",
        "all",
        "Fields to ask for, separated by commas; `user_*`, `evt_*` and `page_*` stand for custom variables.",
        values.read_fields,
    ),
    Setting(
        "FULLSTORY_START_DATE",
        "start",
        "one year back, fixed by `init`",
        "Start of the first window, UTC.",
        values.read_instant,
    ),
    Setting("FULLSTORY_BUNDLE_HOURS", "bundle_hours", "24", "Length of a window, hours.", values.read_window_hours),
    Setting(
        "FULLSTORY_DELAY_HOURS",
        "delay_hours",
        "24",
        "How long after its end a window is fetched, hours; before 24 it is fetched again once settled.",
        values.read_whole_number(0, 24 * 30, "hours"),
    ),
    Setting(
        "FULLSTORY_SCHEDULE",
        "schedule",
        "none",
        "Cron line, or `every 6h at 03:15`; loads at these times and stops the sensor by default.",
        values.read_schedule,
    ),
    Setting(
        "FULLSTORY_SCHEDULE_TIMEZONE",
        "schedule_timezone",
        "UTC",
        "Time zone of the schedule (IANA).",
        values.read_timezone,
    ),
    Setting(
        "FULLSTORY_DATA_DIR",
        "data_dir",
        "data",
        "Local folder of the warehouse, its snapshot, locks, dbt's target and Dagster's home.",
        values.read_path,
    ),
    Setting(
        "FULLSTORY_STORE_URL",
        "store",
        "the data dir",
        "Raw bundles and Parquet: a folder, or a place in an object store (`s3://bucket/prefix`, `gs://…`, `az://…`).",
        values.read_store,
    ),
    Setting(
        "FULLSTORY_SNAPSHOT_MINUTES",
        "snapshot_minutes",
        "60",
        "The read snapshot is renewed at most this often, minutes; 0 never makes one.",
        values.read_whole_number(0, 60 * 24 * 7, "minutes"),
    ),
    Setting(
        "FULLSTORY_WAREHOUSE",
        "warehouse",
        "`<data dir>/warehouse.duckdb`",
        "Path of the DuckDB file, `ducklake:postgres:dbname=… host=…` or `md:…`: see docs/scaling.md.",
        read_location,
        is_secret=True,
    ),
    Setting("FULLSTORY_SCHEMA", "schema", "fullstory", "Schema of every table.", values.read_schema),
    Setting(
        "FULLSTORY_EXCLUDE_COLUMNS",
        "exclude_columns",
        "none",
        "Columns and custom variables that are never stored; the column stays, empty.",
        values.read_columns,
    ),
    Setting(
        "FULLSTORY_HASH_COLUMNS",
        "hash_columns",
        "none",
        "Text columns and custom variables stored as HMAC-SHA256.",
        values.read_hash_columns,
    ),
    Setting("FULLSTORY_HASH_KEY", "hash_key", "none", "Secret key of the hashes.", values.read_secret, is_secret=True),
    Setting(
        "FULLSTORY_TRUNCATE_IP",
        "truncate_ip",
        "0",
        "1 stores IP addresses without their last octet (IPv6: last 80 bits).",
        values.read_flag,
    ),
    Setting(
        "FULLSTORY_KEEP_BUNDLES_DAYS",
        "keep_bundles_days",
        "for ever",
        "Raw bundles of loaded, settled windows older than this many days are deleted.",
        values.read_whole_number(1, 36500, "days"),
    ),
    Setting(
        "FULLSTORY_KEEP_EVENTS_DAYS",
        "keep_events_days",
        "for ever",
        "Events and Parquet of windows that ended more days ago are deleted, and what the models made of them.",
        values.read_whole_number(7, 36500, "days"),
    ),
    Setting(
        "FULLSTORY_KEEP_RUNS_DAYS",
        "keep_runs_days",
        "for ever",
        "Dagster's finished runs that began more days ago are deleted, with their events and logs; no data is.",
        values.read_whole_number(1, 36500, "days"),
    ),
    Setting(
        "FULLSTORY_MIN_ROWS_PCT",
        "min_rows_pct",
        "50",
        "A window that comes back with less than this share of the rows it had is refused, %; 0 takes anything.",
        values.read_whole_number(0, 100, "percent"),
    ),
    Setting(
        "FULLSTORY_MAX_BUNDLE_GB",
        "max_bundle_gb",
        "50",
        "A bundle that unpacks to more than this is refused, GB.",
        values.read_whole_number(1, 10_000, "GB"),
    ),
    Setting(
        "FULLSTORY_MAX_BUNDLE_RATIO",
        "max_bundle_ratio",
        "200",
        "A bundle that unpacks to more than this many times its size is refused.",
        values.read_whole_number(10, 2_000, "times"),
    ),
    Setting("FULLSTORY_ORG_ID", "org_id", "none", "Organisation id; makes replay links.", values.read_org_id),
    Setting(
        "FULLSTORY_JOBS",
        "jobs",
        "4",
        "How many windows are fetched or parsed at a time.",
        values.read_whole_number(1, 64, "windows"),
    ),
    Setting(
        "FULLSTORY_DOWNLOADS_PER_MINUTE",
        "downloads_per_minute",
        "2",
        "Bundle downloads the older API grants the account a minute; 0 is no limit.",
        values.read_whole_number(0, 6000, "downloads"),
    ),
    Setting(
        "FULLSTORY_ALERT_URLS",
        "alert_urls",
        "none",
        "Who is told of failed runs: addresses as Apprise writes them (`slack://…`, `mailto://…`, `json://…`), "
        "separated by blanks.",
        values.read_alert_urls,
        is_secret=True,
    ),
    Setting(
        "FULLSTORY_LOCK_TIMEOUT_S",
        "lock_timeout_s",
        "600",
        "How long to wait for somebody else who holds the warehouse, seconds.",
        values.read_whole_number(0, 86400, "seconds"),
    ),
    Setting(
        "FULLSTORY_DUCKDB_MEMORY_LIMIT",
        "duckdb_memory_limit",
        "2GB",
        "DuckDB's memory limit for models; a load takes 400MB of it at most.",
        values.read_memory,
    ),
    Setting(
        "FULLSTORY_DUCKDB_THREADS",
        "duckdb_threads",
        "one per core",
        "DuckDB's threads for loads and models.",
        values.read_whole_number(1, 256, "threads"),
    ),
)


@dataclass(frozen=True)
class Settings:
    """What a run needs to know. See ``SETTINGS`` for the meaning of each.

    Secrets are left out of ``repr``. Times are aware UTC; paths are absolute.
    """

    start: datetime
    data_dir: Path = field(default_factory=lambda: Path("data").absolute())
    store: Path | str = None  # type: ignore[assignment]  # filled in below: the data dir; a text is a URL
    warehouse: WarehouseLocation = None  # type: ignore[assignment]  # filled in below: <data dir>/warehouse.duckdb
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
    keep_events_days: int | None = None
    keep_runs_days: int | None = None
    min_rows_pct: int = 50
    max_bundle_gb: int = 50
    max_bundle_ratio: int = 200
    org_id: str | None = None
    jobs: int = 4
    alert_urls: tuple[str, ...] = field(default=(), repr=False)
    downloads_per_minute: int = 2
    lock_timeout_s: int = 600
    duckdb_memory_limit: str = "2GB"
    duckdb_threads: int | None = None

    def __post_init__(self) -> None:
        if self.store is None:
            object.__setattr__(self, "store", self.data_dir)
        if self.warehouse is None:
            object.__setattr__(self, "warehouse", self.data_dir / "warehouse.duckdb")
        self._check_together()

    def _check_together(self) -> None:
        if catalog_name(self.warehouse).lower() == self.schema.lower():
            named = f"the file {self.warehouse.name}" if isinstance(self.warehouse, Path) else str(self.warehouse)
            raise SettingsError(
                "FULLSTORY_SCHEMA",
                f"is {self.schema!r}, which is also what DuckDB calls {named}: "
                f"{self.schema}.events would be ambiguous; rename one of them.",
            )
        if isinstance(self.warehouse, LakeCatalog) and isinstance(self.store, str) and not self.store.startswith("s3:"):
            raise SettingsError(
                "FULLSTORY_STORE_URL",
                f"is {self.store}, and FULLSTORY_WAREHOUSE is a lake, whose files lie there as well: they can lie in a "
                "folder or in s3://…. Google's buckets speak S3 as well, with AWS_ENDPOINT_URL and an HMAC key.",
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
        if self.keep_events_days is not None and self.keep_events_days * 24 <= self.delay_hours + 24:
            raise SettingsError(
                "FULLSTORY_KEEP_EVENTS_DAYS",
                f"is {self.keep_events_days}, so that a window would be deleted before it is loaded: it is fetched "
                f"{self.delay_hours} h after its end (FULLSTORY_DELAY_HOURS).",
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
    def store_dir(self) -> Path:
        """Where the store's locks and scratch files are: its own folder, the data dir if it is an object store."""
        return self.store if isinstance(self.store, Path) else self.data_dir

    @property
    def max_bundle_bytes(self) -> int:
        """What a bundle may unpack to."""
        return self.max_bundle_gb * 10**9

    @property
    def load_memory_limit(self) -> str:
        """What DuckDB may take for a load: more only keeps longer in memory what is on the disk already."""
        return values.smaller_memory(self.duckdb_memory_limit, "400MB")

    @property
    def lake_files(self) -> str:
        """Folder of a lake's Parquet files, as DuckLake takes it: with a slash at the end."""
        return f"{self.store}/lake/"

    @property
    def scratch_dir(self) -> Path:
        """Where DuckDB puts what it has no memory for, unless it does so beside its file."""
        return self.data_dir / "scratch"

    @property
    def report_path(self) -> Path:
        """The experience report."""
        return self.data_dir / "report" / "experience_report.html"

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
    def export_shaping(self) -> dict[str, Any]:
        """What FullStory is asked for; kept with every bundle."""
        is_segment = self.export_api == "segment"
        return {
            "export_api": self.export_api,
            "segment_id": self.segment_id if is_segment else None,
            "fields": list(self.fields) if is_segment else [],
            "bundle_hours": self.bundle_hours,
        }

    @property
    def parse_shaping(self) -> dict[str, Any]:
        """What a bundle is parsed by; without secrets."""
        return {
            "field_list": FIELD_LIST_ID,
            "exclude_columns": sorted(self.exclude_columns),
            "hash_columns": sorted(self.hash_columns),
            "truncate_ip": self.truncate_ip,
        }

    @property
    def shaping(self) -> dict[str, Any]:
        """All settings that shape rows, as they are written into the load log."""
        return self.export_shaping | self.parse_shaping

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
    from_file = _dotenv(dotenv or Path(".env"))
    _refuse_unknown({name for name in (*from_file, *environ) if name.startswith("FULLSTORY_")})
    read: dict[str, Any] = {}
    for setting in SETTINGS:
        text = (environ.get(setting.name) or from_file.get(setting.name) or "").strip()
        if setting.is_secret and not text:
            text = _mounted(setting.name, environ)
        if not text:
            continue
        try:
            read[setting.attribute] = setting.read(text)
        except ValueError as error:
            given = "is set, but" if setting.is_secret else f"is {values.redacted_url(text)!r}, but"
            raise SettingsError(setting.name, f"{given} {error}.") from None
    if "start" not in read and default_start is None:
        if "api_key" not in read:
            raise _no_api_key()
        raise SettingsError(
            "FULLSTORY_START_DATE",
            "is not set; run 'fullstory-dagster init', which fixes it, or set the first day to load, e.g. 2026-06-01.",
        )
    return Settings(**({"start": default_start} | read))


def _dotenv(path: Path) -> dict[str, str | None]:
    try:
        return dotenv_values(path, interpolate=False)
    except UnicodeDecodeError:
        raise SettingsError(str(path), "is not UTF-8 text; save it again as UTF-8.") from None


def _mounted(name: str, environ: Mapping[str, str]) -> str:
    """A secret from the file that ``<name>_FILE`` names, as Docker and Kubernetes mount them; empty without one."""
    path = environ.get(f"{name}_FILE")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{name}_FILE", f"names {path}, which cannot be read: {why}.") from None


def _no_api_key() -> SettingsError:
    return SettingsError(
        "FULLSTORY_API_KEY",
        "is not set; run 'fullstory-dagster init' to connect an account, or 'fullstory-dagster demo' to try everything "
        "without one.",
    )


def settings_exist(environ: Mapping[str, str] | None = None, dotenv: Path | None = None) -> bool:
    """Whether an account is connected at all: there is an API key, right or wrong."""
    environ = os.environ if environ is None else environ
    return bool(
        environ.get("FULLSTORY_API_KEY")
        or environ.get("FULLSTORY_API_KEY_FILE")
        or _dotenv(dotenv or Path(".env")).get("FULLSTORY_API_KEY")
    )


NOT_SETTINGS = frozenset({"FULLSTORY_APP_URL", "FULLSTORY_DEMO_URL", "FULLSTORY_LAKE_FILES", "FULLSTORY_SCRATCH_DIR"})
"""Variables with the prefix that we hand to dbt and to the demo's processes ourselves."""


def _refuse_unknown(names: set[str]) -> None:
    known = {setting.name for setting in SETTINGS} | NOT_SETTINGS
    known |= {f"{setting.name}_FILE" for setting in SETTINGS if setting.is_secret}
    # Other tools may have variables with this prefix; a slip of the pen looks like one of ours.
    for name in sorted(names - known):
        meant = get_close_matches(name, known, n=1, cutoff=0.85)
        if meant:
            raise SettingsError(name, f"is no setting; {meant[0]} may be meant.")
