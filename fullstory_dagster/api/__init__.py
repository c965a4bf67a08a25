"""FullStory's export APIs over HTTP: who asks, how often, how long, and what each failure means.

Belongs here: HTTP, authentication, retries, rate limits, redaction, and the proof that a download is whole.
Does not belong here: rows, tables, paths of the bundle store, and whoever orchestrates.
"""

from fullstory_dagster.api.answers import FetchedBundle, ListedBundle, Location
from fullstory_dagster.api.client import FullStoryClient, base_url_of_key
from fullstory_dagster.api.clock import BoundedClock, Clock, SystemClock
from fullstory_dagster.api.coverage import cover_window
from fullstory_dagster.api.rate_limit import FileLedger, Ledger, Limit, RateLimiter
from fullstory_dagster.api.retry import FAILURES, FailureRow, Remedy, RetryPolicy
from fullstory_dagster.api.transport import Timeouts

__all__ = [
    "FAILURES",
    "BoundedClock",
    "Clock",
    "FailureRow",
    "FetchedBundle",
    "FileLedger",
    "FullStoryClient",
    "Ledger",
    "Limit",
    "ListedBundle",
    "Location",
    "RateLimiter",
    "Remedy",
    "RetryPolicy",
    "SystemClock",
    "Timeouts",
    "base_url_of_key",
    "cover_window",
]
