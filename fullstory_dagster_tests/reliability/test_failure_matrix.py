"""Every failure through both APIs, once and always: what it comes to, how many requests it takes, what is left behind.

The client is the one that `Ingestion` makes, with production's numbers of tries and production's pauses; only the
clock does not wait. Each cell is searched for the key and for the signatures of locations: see `failures.SPELLINGS`.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.api import FAILURES as TABLE
from fullstory_dagster.api import FileLedger, FullStoryClient, RateLimiter, RetryPolicy
from fullstory_dagster.errors import FullStoryError
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.faults import route_of
from fullstory_dagster.simulator.process import SimulatorProcess

from .failures import CANARY_KEY, DAY, FAILURES, NOW, ROUTES, SPELLINGS, Api, Failure, Seen
from .report import record, recorded
from .surroundings import Door, PatientClock, Recorder, recording_host

pytestmark = pytest.mark.slow

POLICY = RetryPolicy()
API_NAMES: dict[Api, str] = {"segment": "segment export", "bundle": "bundle"}
EVENTS = [
    {
        "UserId": 2**60 + n,
        "SessionId": n,
        # A day before, the day itself, a day after: a bundle may be longer than the window.
        "EventStart": f"2026-{('05-31', '06-01', '06-02')[n % 3]}T{n % 24:02d}:00:00.123Z",
        "EventType": "click",
        # Hard to pack, so that the file has room to break in.
        "EventTargetText": f"{n * 2654435761 % 2**32:x}{n * 40503 % 65537:x}",
    }
    for n in range(3000)
]
IDS = sorted(event["UserId"] for event in EVENTS if str(event["EventStart"]).startswith("2026-06-01"))
CELLS = [
    pytest.param(failure, api, id=f"{failure.name}-{api}")
    for failure in FAILURES
    for api in ROUTES
    if failure.routes_of(api)
]


@dataclass
class Findings:
    """What all cells saw.

    Attributes:
        cells: by failure, API and whether it was seen once or always: outcome, attempts, seconds.
        searched: how much was searched for secrets.
    """

    cells: dict[tuple[str, Api, Seen], dict[str, Any]] = field(default_factory=dict)
    searched: Counter[str] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def findings() -> Findings:
    return Findings()


@pytest.fixture(scope="module")
def _started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    data = tmp_path_factory.mktemp("served") / "events.json"
    data.write_text(json.dumps(EVENTS))
    with SimulatorProcess(SimulatorConfig(data=data, now=NOW, export_s=0, api_key=CANARY_KEY)) as simulator:
        yield simulator


@pytest.fixture
def simulator(_started: SimulatorProcess) -> SimulatorProcess:
    _started.clear()
    return _started


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Recorder]:
    with recording_host() as host:
        yield host


@dataclass
class Fetched:
    """One fetch.

    Attributes:
        error: that it ended with.
        n_requests: by route.
        seconds: it took, pauses included.
        signatures: of the locations it was given.
    """

    ingestion: Ingestion
    client: FullStoryClient
    error: FullStoryError | None
    n_requests: dict[str, int]
    seconds: float
    signatures: list[str]


def fetch(
    failure: Failure, api: Api, route: str, seen: Seen, simulator: SimulatorProcess, elsewhere: Recorder, folder: Path
) -> Fetched:
    """Fetch the day while the failure happens at a route, once or always."""
    simulator.clear()
    if failure.form is not None:
        form = json.loads(json.dumps(dict(failure.form)).replace("{elsewhere}", f"{elsewhere.url}/?k={SPELLINGS[1]}"))
        times = 1 if seen == "once" else -1
        simulator.set_faults([{"route": failure.faulty or route, **form, "times": times}])
    if failure.bundles is not None:
        start = int(DAY.start.timestamp())
        simulator.set_bundles(
            [
                {"Id": bundle_id, "Start": start + int(first * 3600), "Stop": start + int(last * 3600)}
                for first, last, bundle_id in failure.bundles
            ]
        )
    starts_at = NOW if failure.ahead is None else datetime.now(timezone.utc) + failure.ahead
    clock = PatientClock(starts_at, is_running=failure.timeouts is not None)
    with _way_in(failure, seen, simulator, clock) as url:
        settings = Settings(start=DAY.start, data_dir=folder, api_key=CANARY_KEY, api_url=url, export_api=api)
        ingestion = open_ingestion(settings, clock)
        began = time.perf_counter()
        error = None
        with _client_of(ingestion, failure) as client:
            try:
                ingestion.fetch(DAY, client)
            except FullStoryError as raised:
                error = raised
        seconds = sum(clock.slept) + time.perf_counter() - began
    requests = simulator.requests()
    n_requests = Counter(route_of(request["method"], request["path"]) or "?" for request in requests)
    if failure.is_unreachable:
        # Those that were refused have left no trace but the pause after each.
        n_requests[route] += len(clock.slept) + (error is not None)
    signatures = [text for request in requests for name, text in request["query"].items() if "Signature" in name]
    return Fetched(ingestion, client, error, dict(n_requests), seconds, signatures)


@contextmanager
def _way_in(failure: Failure, seen: Seen, simulator: SimulatorProcess, clock: PatientClock) -> Iterator[str]:
    if not failure.is_unreachable:
        yield simulator.url
        return
    door = Door(simulator.port)
    try:
        if seen == "once":
            clock.on_sleep = door.open
        yield door.url
    finally:
        door.shut()


def _client_of(ingestion: Ingestion, failure: Failure) -> FullStoryClient:
    if failure.timeouts is None:
        return ingestion.client()
    settings = ingestion.settings
    url, key = str(settings.api_url), settings.require_api_key()
    ledger = FileLedger(settings.data_dir / "rate_limit", ingestion.clock)
    limiter = RateLimiter(ledger, base_url=url, api_key=key, clock=ingestion.clock)
    return FullStoryClient(api_key=key, base_url=url, limiter=limiter, clock=ingestion.clock, timeouts=failure.timeouts)


@pytest.mark.parametrize(("failure", "api"), CELLS)
def test_a_failure_does_what_the_table_says(
    failure: Failure,
    api: Api,
    simulator: SimulatorProcess,
    elsewhere: Recorder,
    findings: Findings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    for seen in failure.seen:
        cells = []
        for route in failure.routes_of(api):
            folder = tmp_path / f"{seen} {route}"
            fetched = fetch(failure, api, route, seen, simulator, elsewhere, folder)
            outcome = _outcome_of(fetched, failure, seen)
            assert outcome == failure.outcome(seen), (route, seen, fetched.error)
            expected = failure.requests(api, route, seen, POLICY)
            assert {name: fetched.n_requests.get(name, 0) for name in ROUTES[api]} == expected, (route, seen)
            assert elsewhere.seen == []
            if fetched.error is None:
                _is_whole(fetched.ingestion)
            else:
                _says_so_in_one_sentence(fetched.error)
                _left_nothing(fetched.ingestion, fetched.error, failure)
            findings.searched.update(_searched(fetched, caplog))
            caplog.clear()
            cells.append({"outcome": outcome, "attempts": expected[route], "seconds": round(fetched.seconds, 2)})
        assert len({(cell["outcome"], cell["attempts"]) for cell in cells}) == 1
        findings.cells[failure.name, api, seen] = max(cells, key=lambda cell: float(cell["seconds"]))


def _outcome_of(fetched: Fetched, failure: Failure, seen: Seen) -> str:
    """In the words of the row; that the remedy is the one it names is proved by the requests of each route."""
    if fetched.error is None:
        return failure.outcome(seen) if failure.is_kept(seen) else "kept"
    return failure.outcome(seen) if type(fetched.error) is failure.error else type(fetched.error).__name__


def _is_whole(ingestion: Ingestion) -> None:
    bundle = ingestion.bundles.get(DAY)
    assert bundle is not None
    rows = []
    for file in bundle.files:
        text = b"".join(ingestion.bundles.read(file))
        rows += json.loads(text) if text.startswith(b"[") else [json.loads(line) for line in text.splitlines()]
    assert sorted(row["UserId"] for row in rows if row["EventStart"].startswith("2026-06-01")) == IDS
    assert ingestion.attempts.get(DAY) is None


def _says_so_in_one_sentence(error: FullStoryError) -> None:
    sentence = str(error)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert not re.search(r"[.!?] [A-Z]", sentence), sentence
    assert len(sentence) < 500


def _left_nothing(ingestion: Ingestion, error: FullStoryError, failure: Failure) -> None:
    assert ingestion.bundles.get(DAY) is None
    attempt = ingestion.attempts.get(DAY)
    assert attempt is not None
    assert (attempt.stage, attempt.error, attempt.kind) == ("fetch", str(error), type(error).__name__)
    assert attempt.is_transient is failure.is_transient
    folder = ingestion.settings.data_dir
    kept = {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()}
    assert kept <= {"attempts", "locks", "rate_limit"}


def _searched(fetched: Fetched, caplog: pytest.LogCaptureFixture) -> Counter[str]:
    """Look for secrets in everything the fetch has left; how much that was."""
    secrets = [text.encode() for text in {*SPELLINGS, *fetched.signatures}]
    searched: Counter[str] = Counter(fetches=1)

    def search(kind: str, where: str, content: bytes) -> None:
        searched[kind] += 1
        found = [secret for secret in secrets if secret in content]
        searched["secrets found"] += len(found)
        assert not found, (where, content[:2000])

    folder = fetched.ingestion.settings.data_dir
    for path in folder.rglob("*"):
        search("file names", "its name", str(path.relative_to(folder)).encode())
        if path.is_file():
            search("files", str(path), path.read_bytes())
    for log in caplog.records:
        trace = "".join(traceback.format_exception(*log.exc_info)) if log.exc_info else ""
        search("log records", log.name, f"{log.getMessage()} {log.__dict__!r} {trace}".encode())
    if fetched.error is not None:
        told = "".join(traceback.format_exception(fetched.error))
        search("exceptions with their causes", "the exception", f"{told}{_chain_of(fetched.error)}".encode())
    for shown in (fetched.client, fetched.ingestion.settings, fetched.ingestion):
        search("representations", type(shown).__name__, repr(shown).encode())
    return searched


def _chain_of(error: BaseException | None) -> str:
    """What each exception says that led to this one, those that a traceback leaves out included."""
    said, pending = [], [error]
    while pending:
        each = pending.pop()
        if each is not None:
            said.append(f"{each!r} {each} {vars(each)!r}")
            pending += [each.__cause__, each.__context__]
    return "\n".join(said)


def test_the_search_finds_what_is_there(
    simulator: SimulatorProcess, elsewhere: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nothing = Failure("nothing", None, ("location",))
    fetched = fetch(nothing, "segment", "location", "once", simulator, elsewhere, tmp_path / "data")
    assert fetched.signatures
    _searched(fetched, caplog)
    for secret in (*SPELLINGS, *fetched.signatures):
        planted = tmp_path / "data" / "planted"
        planted.write_text(f"x{secret}x")
        with pytest.raises(AssertionError):
            _searched(fetched, caplog)
        planted.unlink()
        caplog.clear()
        logging.getLogger("any").warning("the secret is %s", secret)
        with pytest.raises(AssertionError):
            _searched(fetched, caplog)
        caplog.clear()


def test_the_table_has_no_failure_that_the_matrix_leaves_out() -> None:
    assert {row.error for row in TABLE} <= {failure.error for failure in FAILURES}
    for row in TABLE:
        if row.side == "api" and len(row.statuses) < 50:
            assert any(failure.form and failure.form.get("status") in row.statuses for failure in FAILURES)


def test_the_matrix_is_the_one_that_is_committed(findings: Findings) -> None:
    expected = {(param.values[0].name, param.values[1]) for param in CELLS}  # type: ignore[union-attr]
    if {(name, api) for name, api, _ in findings.cells} != expected:
        pytest.skip("only a part of the matrix has been run")
    matrix = {"apis": list(API_NAMES.values()), "rows": list(_rows(findings))}
    record("matrix", matrix)
    record("canary", dict(findings.searched))
    committed = recorded("matrix")
    assert committed is not None, "make reliability writes it"
    assert [_without_seconds(row) for row in matrix["rows"]] == [_without_seconds(row) for row in committed["rows"]]


def _rows(findings: Findings) -> Iterator[dict[str, Any]]:
    """One row a failure where once and always are the same, two where they differ."""
    for failure in FAILURES:
        by_seen = {seen: {a: findings.cells.get((failure.name, a, seen)) for a in ROUTES} for seen in failure.seen}
        told = [
            {a: cell and (cell["outcome"], cell["attempts"]) for a, cell in row.items()} for row in by_seen.values()
        ]
        if len(told) == 2 and told[0] == told[1]:
            by_seen = {"always": by_seen["always"]}
        for seen, row in by_seen.items():
            shown = seen if len(by_seen) == 2 else "once or always"
            yield {"failure": failure.name, "seen": shown, **{API_NAMES[a]: cell for a, cell in row.items()}}


def _without_seconds(row: dict[str, Any]) -> dict[str, Any]:
    return {name: {**cell, "seconds": None} if isinstance(cell, dict) else cell for name, cell in row.items()}
