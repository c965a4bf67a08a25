"""Whoever is to know of a failed run is told in its sentences, and nobody reads an address anywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import dagster as dg
import pytest

from fullstory_dagster.definitions import build_definitions
from fullstory_dagster.defs.alerts import AlertError, build_alerts, tell
from fullstory_dagster.errors import SettingsError
from fullstory_dagster.settings import Settings

from .conftest import AccountAt, Materialize

pytestmark = pytest.mark.slow

TOKEN = "canary-token"  # noqa: S105


class Receiver:
    """A webhook on loopback: what came in, and what it answers."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server.server_port}/{TOKEN}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


def failed(definitions: dg.Definitions, instance: dg.DagsterInstance, materialize: Materialize) -> Any:
    """The context in which a sensor is told of a run that failed: no bundle was there to be parsed."""
    result = materialize("parsed_events", 1)
    assert not result.success
    [event] = [event for event in result.all_events if event.event_type == dg.DagsterEventType.RUN_FAILURE]
    return dg.build_run_status_sensor_context(
        sensor_name="tell_of_failed_runs",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=event,
    ).for_run_failure()


def test_nobody_is_told_unless_a_setting_says_so(definitions: dg.Definitions) -> None:
    assert [sensor.name for sensor in definitions.sensors or ()] == ["loads_elsewhere", "new_windows", "follow_bundles"]


def test_a_failed_run_is_told_with_its_window_its_sentence_and_what_to_do(
    settings: Settings,
    account: AccountAt,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    materialize: Materialize,
    receiver: Receiver,
) -> None:
    told = build_definitions(settings.with_changes(alert_urls=(receiver.url,)), account=account)
    sensor = told.resolve_sensor_def("tell_of_failed_runs")
    sensor(failed(definitions, instance, materialize))
    [message] = receiver.messages
    assert message["title"] == "FullStory (fullstory): a run failed for 2026-06-01"
    assert "No bundle is kept for the window" in message["message"]
    assert "materialize raw_bundles for it" in message["message"]
    assert account.settings.api_key not in str(message)


def test_what_could_not_be_told_is_said_without_the_address(
    settings: Settings, receiver: Receiver, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 500
    with pytest.raises(AlertError, match="could not be told to 1 of 1 addresses") as error:
        tell([receiver.url], "A run failed", "The window was not parsed.")
    assert "The window was not parsed." in str(error.value)
    assert TOKEN not in str(error.value) + caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in repr(settings.with_changes(alert_urls=(receiver.url,)))


def test_a_long_message_is_cut_and_the_other_addresses_get_it_whatever_one_of_them_does(receiver: Receiver) -> None:
    with pytest.raises(AlertError, match="1 of 2"):
        tell(["json://127.0.0.1:9/", receiver.url], "Title", "x" * 5_000)
    [message] = receiver.messages
    assert len(message["message"]) == 2_000


def test_an_address_that_nobody_knows_is_refused_when_dagster_loads(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="address 2 of 2") as error:
        build_alerts(settings.with_changes(alert_urls=("json://127.0.0.1/", f"nothing://{TOKEN}")))
    assert TOKEN not in str(error.value)
