"""Every error this project raises on purpose.

FullStoryError                      one sentence a person can act on
├── SettingsError                   a setting is missing, malformed or contradicts another
├── UsageError                      the command line was asked for something that makes no sense
├── TransientError                  trying again later can help; carries retry_after_s when the other side said so
│   ├── RateLimitedError            429
│   ├── ServerError                 408, 5xx
│   ├── ConnectionFailedError       refused, reset, timed out, closed early
│   ├── LocationExpiredError        the signed URL of an export ran out
│   ├── BundleIncompleteError       a download ended before its gzip trailer or its JSON end
│   ├── ExportTimeoutError          an export was not ready before the deadline
│   ├── ExportFailedError           FullStory gave up on an export
│   ├── ClockAheadError             this machine's clock is ahead of FullStory's
│   ├── WindowBusyError             another run works on the same window
│   ├── ErasureBusyError            another process erases somebody
│   ├── BundleDamagedError          a kept bundle is not what was received; it has to be fetched again
│   ├── BundleChangedError          a bundle was fetched again between two stages
│   ├── StoreUnreachableError       the object store did not answer, or failed, until its retries were used up
│   ├── DiskFullError               too little room for what a stage has to write
│   ├── WarehouseLockedError        somebody else holds the warehouse; carries holder_pid
│   └── WarehouseUnreachableError   the lake's catalog does not answer, or went away meanwhile
└── PermanentError                  trying again cannot help until somebody changes something; may name the setting
    ├── AuthenticationError         401, 403
    ├── RequestRefusedError         any other 4xx, a redirect, an answer that is not FullStory's
    ├── BundleFormatError           the bundle is no JSON array, NDJSON or CSV; carries the byte offset
    ├── BundleTooLargeError         the bundle unpacks to more than the settings allow; names the setting
    ├── BundleMissingError          a stage asks for what the stage before it has not made
    ├── WindowUnavailableError      the window is not over and settled yet, or its bundles do not cover it
    ├── WindowNotOfferedError       the window is older than the first bundle of the account
    ├── WindowShrankError           a window came back with far fewer rows than the load it would replace
    ├── StoreRefusedError           the object store refused: no such bucket, no permission, no credentials
    ├── StoreTooNewError            a newer version of this project wrote what is there
    └── WarehouseMismatchError      the warehouse was loaded under settings that cannot be mixed with these
"""

from __future__ import annotations

import re


class FullStoryError(Exception):
    """Base of all errors of this project; ``str(error)`` is one sentence without secrets."""


class SettingsError(FullStoryError):
    """A setting is missing or wrong.

    Attributes:
        setting: the environment variable, e.g. ``FULLSTORY_BUNDLE_HOURS``.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting} {problem}")
        self.setting = setting


class UsageError(FullStoryError):
    """A command was asked for something it cannot mean; the command line exits with 2."""


class TransientError(FullStoryError):
    """Trying again later can help.

    Attributes:
        retry_after_s: seconds the other side asked to wait, if it did.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimitedError(TransientError):
    """FullStory answered 429: the account's rate limit is used up for the moment."""


class ServerError(TransientError):
    """FullStory answered 408 or 5xx."""


class ConnectionFailedError(TransientError):
    """The connection was refused, reset, timed out or closed early."""


class LocationExpiredError(TransientError):
    """The signed location of an export no longer works; a fresh one can be asked for."""


class BundleIncompleteError(TransientError):
    """A download ended before its gzip trailer or before the end of its last row."""


class ExportTimeoutError(TransientError):
    """An export was still pending when the polling deadline passed."""


class ExportFailedError(TransientError):
    """FullStory reported the export operation as failed; a new operation may do better."""


class ClockAheadError(TransientError):
    """This machine's clock is ahead of FullStory's, so it would call windows settled that are not."""


class WindowBusyError(TransientError):
    """Another run has been working on the same window for too long to wait for it."""


class BundleDamagedError(TransientError):
    """The disk gave back other bytes of a kept bundle than were received; another fetch mends it."""


class ErasureBusyError(TransientError):
    """Another process has been erasing somebody for too long to wait for it."""


class BundleChangedError(TransientError):
    """The bundle of a window was fetched again after the stage before read it; that stage has to run again."""


class DiskFullError(TransientError):
    """There is too little room on the disk for what a stage has to write; it goes on once somebody made some."""


class StoreUnreachableError(TransientError):
    """The object store did not answer, or answered that it is broken or busy, however often it was asked."""


class WarehouseLockedError(TransientError):
    """Another process holds the warehouse, or other writers were first too often.

    Attributes:
        holder_pid: its process id, where it is known.
    """

    def __init__(self, message: str, *, holder_pid: int | None = None) -> None:
        super().__init__(message)
        self.holder_pid = holder_pid


class WarehouseUnreachableError(TransientError):
    """The PostgreSQL of a lake's catalog does not answer, or the connection to it broke.

    What was being written is there as a whole or not at all.
    """


class PermanentError(FullStoryError):
    """Trying again cannot help until somebody changes something.

    Attributes:
        setting: the setting to look at, if there is one.
    """

    def __init__(self, message: str, *, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting


class AuthenticationError(PermanentError):
    """FullStory answered 401 or 403: the key is wrong or its plan lacks data export."""


class RequestRefusedError(PermanentError):
    """FullStory answered with a 4xx, a redirect, or something that is not FullStory's answer."""


class BundleFormatError(PermanentError):
    """A bundle cannot be read as rows at all.

    Attributes:
        byte_offset: where in the unpacked bundle reading stopped.
    """

    def __init__(self, message: str, *, byte_offset: int | None = None) -> None:
        super().__init__(message)
        self.byte_offset = byte_offset


class BundleTooLargeError(PermanentError):
    """A bundle unpacks to more than the settings allow: a bomb, or a day that is larger than anybody thought."""


class BundleMissingError(PermanentError):
    """A stage was asked to work on what the stage before it has not made."""


class WindowUnavailableError(PermanentError):
    """FullStory cannot have the whole window yet; nothing is wrong with it."""


class WindowNotOfferedError(PermanentError):
    """FullStory keeps no bundle for the window: it is older than the first one listed."""


class WindowShrankError(PermanentError):
    """A window came back with far fewer rows than the load it would replace; those are kept.

    Attributes:
        rows_before: rows FullStory sent for the load that is kept.
        rows_now: rows it sent this time.
    """

    def __init__(self, message: str, *, rows_before: int, rows_now: int) -> None:
        super().__init__(message, setting="FULLSTORY_MIN_ROWS_PCT")
        self.rows_before = rows_before
        self.rows_now = rows_now


class StoreRefusedError(PermanentError):
    """The object store answered that it does not do that: no such bucket, no permission, no credentials."""


class StoreTooNewError(PermanentError):
    """What is there was written by a newer version of this project, which may have meant something else by it."""


class WarehouseMismatchError(PermanentError):
    """The warehouse was loaded under settings that cannot be mixed with the present ones."""


_QUOTED = re.compile(r"""['"`].*['"`]""")
"""From the first mark to the last: what is quoted may hold such marks itself."""
_TOLD = 500
"""Characters of an error that is not ours: some libraries repeat what they were given."""


def sentence_of(error: BaseException) -> str:
    """What an error says, on one line and ending in a full stop.

    Of an error that is not ours, what it quotes is left out: that may be a value out of somebody's event.
    """
    text = " ".join(str(error).split())
    if not isinstance(error, FullStoryError):
        # DuckDB shows the statement, or the row, below the first line.
        first = " ".join(str(error).strip().partition("\n")[0].split())
        said = text if isinstance(error, OSError) else _QUOTED.sub("'…'", first)
        text = f"{type(error).__name__}: {said[:_TOLD]}" if said else type(error).__name__
    return text if text.endswith((".", ")")) else f"{text}."
