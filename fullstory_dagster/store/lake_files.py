"""A lake's files in a bucket, as DuckDB reaches them: with the credentials by which bundles and Parquet are reached."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from duckdb import DuckDBPyConnection

from fullstory_dagster.errors import FullStoryError, SettingsError, StoreRefusedError, StoreUnreachableError
from fullstory_dagster.store.extensions import load_extensions
from fullstory_dagster.store.tables import quote, quote_text

FILES_EXTENSION = "httpfs"

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_HTTP = re.compile(r"HTTP (?:GET|HEAD|PUT|POST|DELETE)|HTTP code|HTTP Error")
_STATUS = re.compile(r"\(HTTP code (\d{3})\)|\bHTTP (\d{3})\b")
_PASSING = (408, 425, 429)


def reach_lake_files(connection: DuckDBPyConnection, files: str) -> None:
    """Make a connection able to read and write the files; nothing is to be done for a folder.

    Args:
        connection: of DuckDB, which keeps the credentials for this place alone and shows them to nobody.
        files: folder, or URL of S3, with a slash at the end.

    Raises:
        PermanentError: the extension is not installed.
        SettingsError: boto3 is not installed, or there are no credentials.
    """
    if "://" not in files:
        return
    load_extensions(connection, [FILES_EXTENSION])
    options = _credentials(files)
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    if endpoint:
        parts = urlsplit(endpoint)
        # Whoever has an endpoint of their own has no host for each bucket.
        options |= {"ENDPOINT": parts.netloc, "URL_STYLE": "path"}
        options |= {"USE_SSL": "false"} if parts.scheme == "http" else {}
    given = ", ".join(f"{quote(name)} {quote_text(value)}" for name, value in options.items() if value)
    connection.execute(f"CREATE OR REPLACE SECRET fullstory_lake_files (TYPE s3, SCOPE {quote_text(files)}, {given})")


def files_error(said: str, files: str, failed: str) -> FullStoryError | None:
    """What DuckDB says of the bucket, as a sentence that quotes nothing of it; None if it speaks of something else.

    Args:
        said: by DuckDB.
        files: as in :func:`reach_lake_files`.
        failed: what did not happen, as a sentence.
    """
    if "://" not in files or not _HTTP.search(said):
        return None
    found = _STATUS.search(said)
    status = int(found[1] or found[2]) if found else 0
    if 400 <= status < 500 and status not in _PASSING:
        return StoreRefusedError(
            f"{failed}: the object store with the lake's files, {files}, answers {status}. What was there before is "
            "unchanged. The bucket has to be there, and the credentials of the environment have to be let in: "
            "docs/object-storage.md says what to set."
        )
    return StoreUnreachableError(
        f"{failed}: the object store with the lake's files, {files}, "
        + (f"answers {status}" if status else "does not answer")
        + "; what was there before is unchanged. Try again."
    )


def _credentials(files: str) -> dict[str, str | None]:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise SettingsError(
            "FULLSTORY_STORE_URL",
            f"puts the lake's files in {files}, which needs boto3; install it: "
            "pip install --constraint constraints.txt '.[lake,objects]'.",
        ) from None
    try:
        session = boto3.Session()
        found = session.get_credentials()
        frozen = found.get_frozen_credentials() if found else None
    except BotoCoreError:
        frozen = None
    if frozen is None:
        raise SettingsError(
            "FULLSTORY_STORE_URL",
            f"puts the lake's files in {files}, and no credentials for it were found (AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role of the machine).",
        )
    return {
        "KEY_ID": frozen.access_key,
        "SECRET": frozen.secret_key,
        "SESSION_TOKEN": frozen.token,
        "REGION": session.region_name or os.environ.get("AWS_REGION") or "us-east-1",
    }
