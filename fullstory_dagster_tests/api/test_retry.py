"""What each failure does, and how often: with a clock that only sleeping moves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime

import pytest

from fullstory_dagster import errors
from fullstory_dagster.api.retry import (
    FAILURES,
    Remedy,
    Retrier,
    RetryPolicy,
    error_of_status,
    remedies_of,
    retry_after_s,
    row_of_status,
)
from fullstory_dagster.errors import (
    AuthenticationError,
    BundleIncompleteError,
    ConnectionFailedError,
    LocationExpiredError,
    PermanentError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
    TransientError,
)

from .fake_clock import EPOCH, FakeClock

POLICY = RetryPolicy(jitter=lambda: 1.0)


class Failing:
    """Raises its errors one after the other, then returns how often it was called."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.n_calls = 0

    def __call__(self) -> int:
        self.n_calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return self.n_calls


def test_every_failure_of_one_kind_has_the_same_remedies() -> None:
    for row in FAILURES:
        if row.error is not None:
            assert remedies_of(row.error("x")) == row.remedies, row.failure


def test_a_permanent_error_is_never_sent_again() -> None:
    for row in FAILURES:
        if row.error is not None and issubclass(row.error, PermanentError):
            assert Remedy.SEND_AGAIN not in row.remedies


def test_every_error_status_has_a_row_on_both_sides() -> None:
    for status in range(300, 600):
        for side in ("api", "location"):
            assert row_of_status(status, side) is not None
    assert row_of_status(200, "api") is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, RequestRefusedError),
        (405, RequestRefusedError),
        (408, ServerError),
        (413, RequestRefusedError),
        (422, RequestRefusedError),
        (429, RateLimitedError),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
        (504, ServerError),
    ],
)
def test_a_status_of_the_api_becomes_its_error_in_one_sentence(status: int, kind: type[Exception]) -> None:
    error = error_of_status(
        status, side="api", what="the list of bundles", setting="FULLSTORY_EXPORT_API", policy=POLICY
    )
    assert type(error) is kind
    assert str(error).endswith(".")
    assert f"HTTP {status}" in str(error)
    assert "the list of bundles" in str(error)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_location_that_is_refused_counts_as_expired_and_never_as_a_wrong_key(status: int) -> None:
    assert type(error_of_status(status, side="location", what="export 1", policy=POLICY)) is LocationExpiredError


@pytest.mark.parametrize(
    ("status", "setting"),
    [
        (401, "FULLSTORY_API_KEY"),
        (404, "FULLSTORY_SEGMENT_ID"),
        (405, "FULLSTORY_API_URL"),
        (413, "FULLSTORY_BUNDLE_HOURS"),
    ],
)
def test_a_refusal_names_the_setting_to_look_at(status: int, setting: str) -> None:
    error = error_of_status(status, side="api", what="an export", setting="FULLSTORY_SEGMENT_ID", policy=POLICY)
    assert isinstance(error, PermanentError)
    assert error.setting == setting
    assert setting in str(error)


def test_the_pauses_double_up_to_the_cap_and_the_tries_are_counted() -> None:
    clock, call = FakeClock(), Failing(*(ServerError("Down.") for _ in range(9)))
    with pytest.raises(ServerError, match=r"^Down \(8 requests were tried\)\.$"):
        Retrier(RetryPolicy(max_requests=8, backoff_cap_s=20, jitter=lambda: 1.0), clock).run(call, Remedy.SEND_AGAIN)
    assert call.n_calls == 8
    assert clock.slept == [1, 2, 4, 8, 16, 20, 20]


def test_jitter_shortens_a_pause_to_half_at_most() -> None:
    assert RetryPolicy(jitter=lambda: 0.0).backoff_s(3) == 2
    assert RetryPolicy(jitter=lambda: 1.0).backoff_s(3) == 4


def test_retry_after_takes_the_place_of_the_pause() -> None:
    clock = FakeClock()
    call = Failing(RateLimitedError("Slow.", retry_after_s=42), ServerError("Down."))
    assert Retrier(POLICY, clock).run(call, Remedy.SEND_AGAIN) == 3
    assert clock.slept == [42, 2]


def test_a_retry_after_beyond_the_bound_fails_at_once_and_says_so() -> None:
    clock = FakeClock()
    error = error_of_status(429, side="api", what="bundle 1", asked_wait_s=3600, policy=POLICY)
    assert error is not None
    call = Failing(error)
    with pytest.raises(
        RateLimitedError, match=r"asks to wait 3,600 s, longer than the 300 s that a run waits"
    ) as caught:
        Retrier(POLICY, clock).run(call, Remedy.SEND_AGAIN)
    assert (call.n_calls, clock.slept, caught.value.retry_after_s) == (1, [], 3600)


def test_no_try_begins_after_the_total_time() -> None:
    clock = FakeClock()
    call = Failing(*(RateLimitedError("Slow.", retry_after_s=100) for _ in range(9)))
    with pytest.raises(RateLimitedError):
        Retrier(RetryPolicy(max_total_s=250), clock).run(call, Remedy.SEND_AGAIN)
    assert (call.n_calls, clock.slept) == (3, [100, 100])


def test_the_wait_before_the_first_failure_is_not_counted() -> None:
    clock = FakeClock()
    failing = Failing(ServerError("Down."))

    def slow() -> int:
        clock.advance(10_000)
        return failing()

    assert Retrier(POLICY, clock).run(slow, Remedy.SEND_AGAIN) == 2


def test_a_deadline_of_the_caller_ends_the_tries() -> None:
    clock, call = FakeClock(), Failing(*(ConnectionFailedError("Reset.") for _ in range(9)))
    with pytest.raises(ConnectionFailedError):
        Retrier(POLICY, clock).run(call, Remedy.SEND_AGAIN, give_up_at=lambda: 5.0)
    assert clock.slept == [1, 2]


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("No."),
        RequestRefusedError("No."),
        ValueError("a bug"),
        OSError(28, "No space left on device"),
    ],
)
def test_what_cannot_be_mended_is_tried_once(error: Exception) -> None:
    call = Failing(error, error)
    with pytest.raises(type(error)) as caught:
        Retrier(POLICY, FakeClock()).run(call, Remedy.SEND_AGAIN)
    assert caught.value is error
    assert call.n_calls == 1


def test_levels_do_not_multiply() -> None:
    """One 405 retried thousands of times was three retry mechanisms on top of each other."""
    retrier = Retrier(POLICY, FakeClock())

    def nested(call: Callable[[], int]) -> Callable[[], int]:
        def inner() -> int:
            return retrier.run(call, Remedy.SEND_AGAIN)

        def middle() -> int:
            return retrier.run(inner, Remedy.FRESH_LOCATION)

        return lambda: retrier.run(lambda: retrier.run(middle, Remedy.DOWNLOAD_AGAIN), Remedy.NEW_OPERATION)

    for error, n_calls in [
        (RequestRefusedError("405"), 1),
        (ServerError("500"), POLICY.max_requests),
        (LocationExpiredError("403"), POLICY.max_locations),
        (BundleIncompleteError("cut"), POLICY.max_downloads * POLICY.max_operations),
    ]:
        call = Failing(*(type(error)(str(error)) for _ in range(100)))
        with pytest.raises(type(error)):
            nested(call)()
        assert call.n_calls == n_calls


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("17", 17.0),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        (format_datetime(EPOCH + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(EPOCH - timedelta(seconds=90), usegmt=True), 0.0),
        ("Wed, 03 Jun 2026 14:01:00 +0200", 60.0),
        ("Wed, 03 Jun 2026 12:01:00 -0000", 60.0),
        ("Wed, 99 Jun 2026 12:01:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, EPOCH) == seconds


def test_the_table_names_only_errors_of_the_tree() -> None:
    for row in FAILURES:
        if row.error is not None:
            assert getattr(errors, row.error.__name__) is row.error
            assert issubclass(row.error, (TransientError, PermanentError))
