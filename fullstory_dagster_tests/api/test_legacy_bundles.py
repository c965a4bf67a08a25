"""The legacy API against the simulator, over real HTTP: listing, tiling and downloading bundles."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from fullstory_dagster.api import FullStoryClient, ListedBundle, RetryPolicy
from fullstory_dagster.errors import (
    BundleFormatError,
    BundleIncompleteError,
    RequestRefusedError,
    WindowNotOfferedError,
    WindowUnavailableError,
)
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.windows import Window

from .conftest import DAY, EVENTS, MakeClient

MIDNIGHT = DAY.start


def at(hours: float) -> datetime:
    return MIDNIGHT + timedelta(hours=hours)


def listed(start_h: float, stop_h: float, bundle_id: int | str) -> dict[str, Any]:
    return {"Id": bundle_id, "Start": int(at(start_h).timestamp()), "Stop": int(at(stop_h).timestamp())}


def list_answer(*rows: object) -> dict[str, Any]:
    return {"route": "list", "status": 200, "body": {"exports": list(rows)}, "times": -1}


def test_a_window_arrives_whole_and_exact(client: FullStoryClient) -> None:
    (bundle,) = client.bundles_of_window(DAY)
    assert (bundle.start, bundle.stop) == (DAY.start, DAY.end)
    file = io.BytesIO()
    fetched = client.download_bundle(bundle, into=file)
    content = file.getvalue()
    assert json.loads(gzip.decompress(content)) == EVENTS
    assert (fetched.export_id, fetched.bytes) == (bundle.id, len(content))
    assert fetched.sha256 == hashlib.sha256(content).hexdigest()
    assert fetched.n_attempts == 1


@pytest.mark.parametrize("bundle_id", [2**53 + 1, str(2**53 + 1)], ids=["number", "text"])
def test_an_id_is_exact_as_a_number_and_as_text(
    client: FullStoryClient, simulator: SimulatorProcess, bundle_id: int | str
) -> None:
    simulator.set_bundles([listed(0, 24, bundle_id)])
    (bundle,) = client.bundles_of_window(DAY)
    assert bundle.id == "9007199254740993"
    client.download_bundle(bundle, into=io.BytesIO())
    assert simulator.requests()[-1]["query"] == {"id": "9007199254740993"}


def test_lists_longer_than_a_page_are_read_to_their_end(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    simulator.set_bundles([listed(n, n + 1, n + 1) for n in range(47)])
    bundles = client.list_bundles(at(0), at(100))
    assert [bundle.id for bundle in bundles] == [str(n + 1) for n in range(47)]
    starts = [int(request["query"]["start"]) for request in simulator.requests()]
    assert starts == [int(at(h).timestamp()) for h in (0, 20, 40, 47)]


def test_listing_stops_once_the_range_is_covered(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    simulator.set_bundles([listed(n, n + 1, n + 1) for n in range(100)])
    bundles = client.list_bundles(at(0.5), at(21.5))
    assert (bundles[0].id, bundles[-1].id, len(bundles)) == ("1", "22", 22)
    assert len(simulator.requests()) == 2


def test_nothing_listed_is_an_empty_list(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    simulator.set_bundles([])
    assert client.list_bundles(at(0), at(24)) == []
    assert client.oldest_bundle() is None
    simulator.set_faults([{"route": "list", "status": 200, "body": {"exports": None}, "times": -1}])
    assert client.list_bundles(at(0), at(24)) == []


def test_a_list_that_ignores_where_to_start_is_refused(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    simulator.set_faults([list_answer(*(listed(n, n + 1, n + 1) for n in range(20)))])
    with pytest.raises(RequestRefusedError, match="does not go on where it was asked to"):
        client.list_bundles(at(0), at(100))
    assert len(simulator.requests()) == 2


def test_a_list_that_repeats_its_last_bundle_ends(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    simulator.set_faults([list_answer(listed(0, 1, 1))])
    assert [bundle.id for bundle in client.list_bundles(at(0), at(100))] == ["1"]
    assert len(simulator.requests()) == 2


@pytest.mark.parametrize(
    "row",
    [
        {"Id": 1.5, "Start": 1, "Stop": 2},
        {"Id": True, "Start": 1, "Stop": 2},
        {"Id": "", "Start": 1, "Stop": 2},
        {"Id": "..", "Start": 1, "Stop": 2},
        {"Id": "a\nb", "Start": 1, "Stop": 2},
        {"Start": 1, "Stop": 2},
        {"Id": 1, "Stop": 2},
        {"Id": 1, "Start": 10**30, "Stop": 10**31},
        {"Id": 1, "Start": 2, "Stop": 2},
        "a bundle",
    ],
    ids=str,
)
def test_a_list_that_cannot_be_fullstorys_is_refused(
    client: FullStoryClient, simulator: SimulatorProcess, row: object
) -> None:
    simulator.set_faults([list_answer(row)])
    with pytest.raises(RequestRefusedError, match="not FullStory's"):
        client.oldest_bundle()
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize(
    ("bundles", "ids"),
    [
        ([(0, 6), (6, 12), (12, 18), (18, 24), (24, 30)], ["1", "2", "3", "4"]),
        ([(-24, 0), (0, 48)], ["2"]),
        ([(-18, 6), (6, 30)], ["1", "2"]),
    ],
    ids=["shorter", "longer", "offset"],
)
def test_a_window_is_made_up_of_the_bundles_that_tile_it(
    client: FullStoryClient, simulator: SimulatorProcess, bundles: list[tuple[int, int]], ids: list[str]
) -> None:
    simulator.set_bundles([listed(start, stop, n + 1) for n, (start, stop) in enumerate(bundles)])
    assert [bundle.id for bundle in client.bundles_of_window(DAY)] == ids


@pytest.mark.parametrize(
    "bundles",
    [[(-24, 0), (0, 6), (12, 24)], [(-24, 0), (0, 18)], [(0, 13), (12, 24)], [(-24, 0), (6, 24)], []],
    ids=["gap", "not yet", "overlap", "gap at the start", "none at all"],
)
def test_a_window_that_is_not_tiled_is_unavailable(
    client: FullStoryClient, simulator: SimulatorProcess, bundles: list[tuple[int, int]]
) -> None:
    simulator.set_bundles([listed(start, stop, n + 1) for n, (start, stop) in enumerate(bundles)])
    with pytest.raises(WindowUnavailableError):
        client.bundles_of_window(DAY)


def test_a_window_before_the_first_bundle_is_not_offered(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    simulator.set_bundles([listed(24, 48, 1)])
    with pytest.raises(WindowNotOfferedError, match="the first one starts 2026-06-02 00:00 UTC"):
        client.bundles_of_window(DAY)


def test_a_window_after_the_last_bundle_is_unavailable_and_not_unoffered(
    client: FullStoryClient, simulator: SimulatorProcess
) -> None:
    simulator.set_bundles([listed(0, 24, 1)])
    with pytest.raises(WindowUnavailableError):
        client.bundles_of_window(Window(at(48), at(72)))


@pytest.mark.parametrize("form", ["reset_after_bytes", "short_body_bytes"])
def test_a_download_that_breaks_goes_on_where_it_broke(
    client: FullStoryClient, simulator: SimulatorProcess, form: str
) -> None:
    (bundle,) = client.bundles_of_window(DAY)
    undisturbed = client.download_bundle(bundle, into=io.BytesIO())
    simulator.set_faults([{"route": "get", form: 20_000}])
    fetched = client.download_bundle(bundle, into=io.BytesIO())
    assert fetched.sha256 == undisturbed.sha256
    assert fetched.n_attempts == 2
    # A reset may throw away what had arrived; then there is nothing to go on from.
    assert simulator.requests()[-1]["status"] == 206 or form == "reset_after_bytes"


@pytest.mark.parametrize("form", ["plain_json", "gzip_twice"])
def test_a_proxy_may_have_changed_the_packing(client: FullStoryClient, simulator: SimulatorProcess, form: str) -> None:
    (bundle,) = client.bundles_of_window(DAY)
    simulator.set_faults([{"route": "get", form: True}])
    file = io.BytesIO()
    assert client.download_bundle(bundle, into=file).n_attempts == 1
    content = file.getvalue()
    assert json.loads(content if form == "plain_json" else gzip.decompress(gzip.decompress(content))) == EVENTS


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"truncate_gzip_bytes": 20_000}, BundleIncompleteError),
        ({"cut_json": True}, BundleIncompleteError),
        ({"empty_body": True}, BundleIncompleteError),
        ({"corrupt_gzip": True}, BundleFormatError),
        ({"html": True}, RequestRefusedError),
        ({"redirect": "https://storage.example.com/bundle"}, RequestRefusedError),
        ({"status": 404}, RequestRefusedError),
    ],
    ids=str,
)
def test_a_bundle_that_stays_broken_is_given_up(
    client: FullStoryClient, simulator: SimulatorProcess, fault: dict[str, Any], kind: type[Exception]
) -> None:
    (bundle,) = client.bundles_of_window(DAY)
    simulator.set_faults([{"route": "get", **fault, "times": -1}])
    simulator_requests = len(simulator.requests())
    with pytest.raises(kind):
        client.download_bundle(bundle, into=io.BytesIO())
    n_downloads = len(simulator.requests()) - simulator_requests
    assert n_downloads == (1 if kind is RequestRefusedError else RetryPolicy().max_downloads)


def test_times_are_utc(make_client: MakeClient) -> None:
    (bundle,) = make_client().bundles_of_window(DAY)
    assert isinstance(bundle, ListedBundle)
    assert bundle.start.tzinfo is timezone.utc
