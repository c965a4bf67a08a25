"""How an object store is reached, and what its errors mean: the only place that knows one cloud from another."""

from __future__ import annotations

import errno
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fullstory_dagster.errors import FullStoryError, SettingsError, StoreRefusedError, StoreUnreachableError

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket

_SETTING = "FULLSTORY_STORE_URL"
_GUIDE = "docs/object-storage.md says what to set"

_REQUEST_S = 300
"""What one request may take: a part of an upload takes long where the line is slow. To connect it has 5 s."""
_MAX_RETRIES = 10
_RETRIES_S = 180
_ENDPOINTS = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT",
    "GOOGLE_BASE_URL",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_ENDPOINT",
)

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role of the machine",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or a service account of the machine",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, a client secret, or an identity of the machine",
}
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_PASSING = (408, 425, 429)
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_NO_CREDENTIALS = (
    # Where machines in a cloud are told of their role, which is asked last, when there is nothing else.
    "/latest/api/token",
    "/latest/meta-data",
    "/computeMetadata/",
    "/metadata/identity",
    # What AWS_PROFILE names.
    "External AWS credential provider",
)
_ELSEWHERE = "redirect without LOCATION"


def connect(url: str, patience_s: float | None = None) -> Bucket:
    """The bucket, or container, and the prefix in it. Credentials come from the environment; nothing is sent yet.

    Args:
        url: of the place.
        patience_s: for a caller who cannot wait for minutes: no request takes longer, its repetitions included.

    Raises:
        SettingsError: the package for it is not installed, or the environment does not say enough.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise _not_installed("names an object store") from None
    # Whoever names an endpoint without TLS means it; what is given here takes the place of AWS_ALLOW_HTTP.
    is_plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    request_s, retries_s = (min(bound, patience_s or bound) for bound in (_REQUEST_S, _RETRIES_S))
    options: dict[str, Any] = {
        "client_options": {"timeout": timedelta(seconds=request_s), "allow_http": is_plain},
        "retry_config": {"max_retries": _MAX_RETRIES, "retry_timeout": timedelta(seconds=retries_s)},
    }
    if _cloud(url) == "s3":
        # One key at a time is deleted anyhow, and not every store that speaks S3 knows how to delete many.
        options["disable_bulk_delete"] = True
        if os.environ.get("AWS_PROFILE"):
            options["credential_provider"] = _profile_credentials()
    try:
        return from_url(url, **options)
    except (BaseError, ValueError) as error:
        is_account_missing = "Account must be specified" in str(error)
    # Not chained: what the library says may hold what it was given.
    if is_account_missing:
        raise SettingsError(
            _SETTING, f"is {url}, but AZURE_STORAGE_ACCOUNT_NAME does not say in which account that is; {_GUIDE}."
        )
    raise SettingsError(_SETTING, f"is {url}, but what the environment says of that cloud cannot be used; {_GUIDE}.")


def store_error(error: Exception, url: str, location: str, failed: str) -> FullStoryError | OSError:
    """What the library's error means, in a sentence that quotes nothing of it.

    Args:
        error: raised by obstore.
        url: of the store.
        location: of the object, or of objects.
        failed: what did not happen to it: ``read``, ``written``, ``listed`` or ``deleted``.

    Returns:
        FileNotFoundError: there is no such object.
        OSError: ESTALE, the object that was begun to be read has been replaced.
        StoreRefusedError: trying again cannot help.
        StoreUnreachableError: it can.
    """
    from obstore.exceptions import PreconditionError

    said = str(error).partition("\n\nDebug source:")[0]
    what = f"{location} was not {failed}"
    if isinstance(error, PreconditionError):
        return OSError(errno.ESTALE, "The object was replaced while it was read", location)
    # Nothing but the bucket can be missing for what is written.
    is_missing = isinstance(error, FileNotFoundError)
    if any(sign in said for sign in _NO_BUCKET) or (is_missing and failed == "written"):
        return _refused(what, f"there is no bucket or container of that name. Make it, or mend {_SETTING}")
    if is_missing:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location)
    status = int(found[1]) if (found := _STATUS.search(said)) else 0
    code = _CODE.search(said)
    answer = f"it answers {status} {code[1]}" if code else f"it answers {status}"
    if any(sign in said for sign in _NO_CREDENTIALS):
        return _refused(what, f"no credentials that work were found ({_CREDENTIALS[_cloud(url)]}); {_GUIDE}")
    if status in (401, 403):
        return _refused(
            what,
            f"{answer}. The credentials in the environment have to be right, and to allow listing, reading, writing "
            f"and deleting below {url}; {_GUIDE}",
        )
    if "builder error" in said:
        return _refused(what, f"its endpoint is no address that can be asked; {_GUIDE}")
    if _ELSEWHERE in said:
        return _refused(what, f"the bucket is in another region than AWS_REGION says, or at another endpoint; {_GUIDE}")
    if 300 <= status < 500 and status not in _PASSING:
        return _refused(what, f"{answer}; {_GUIDE}")
    why = answer if status else "it does not answer"
    return StoreUnreachableError(f"{what}: {why}. What was there before is unchanged; it is worth another try.")


def _refused(what: str, why: str) -> StoreRefusedError:
    return StoreRefusedError(f"{what}: {why}. What was there before is unchanged.", setting=_SETTING)


def _cloud(url: str) -> str:
    scheme = url.partition(":")[0]
    return "az" if scheme.startswith("abfs") else scheme


def _profile_credentials() -> Any:
    """What AWS_PROFILE names, single sign-on and roles included, which obstore leaves to Amazon's own library."""
    try:
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise _not_installed("is in S3, and AWS_PROFILE is set") from None
    try:
        return Boto3CredentialProvider()
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(
            "AWS_PROFILE", f"is {os.environ['AWS_PROFILE']!r}, which gives no credentials ({type(error).__name__})."
        ) from None


def _not_installed(why: str) -> SettingsError:
    return SettingsError(
        _SETTING,
        f"{why}, for which a package is not installed: pip install -c constraints.txt -e '.[objects]' in the clone.",
    )
