"""The simulator's life as a process, and its command line."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fullstory_dagster.simulator.config import (
    KEY_VARIABLE,
    SimulatorConfig,
    format_instant,
    parse_arguments,
    parse_instant,
)
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster_tests.reachability import addresses_that_answer

from .http_client import api, call


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_says_where_it_is_on_one_line_and_ends_on_interrupt() -> None:
    command = [sys.executable, "-m", "fullstory_dagster.simulator", "--days=1", "--api-key=k1"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[3]
        assert line == f"FullStory simulator at {url} (API key: k1)\n"
        assert call(f"{url}/api/v1/export/list?start=0", headers={"Authorization": "Basic k1"}).status == 200
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert process.wait(10) == 0


def test_only_this_machine_can_reach_it() -> None:
    with SimulatorProcess() as simulator:
        answering = addresses_that_answer(simulator.port)
    assert "127.0.0.1" in answering
    assert [address for address in answering if not ipaddress.ip_address(address).is_loopback] == []


def test_it_does_not_outlive_the_process_that_started_it() -> None:
    script = (
        "import os, sys\n"
        "from fullstory_dagster.simulator.process import SimulatorProcess\n"
        "simulator = SimulatorProcess().__enter__()\n"
        "print(simulator._process.pid, flush=True)\n"
        "os._exit(1)\n"
    )
    pid = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout)
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)


def test_a_port_that_is_taken_is_named_in_the_error() -> None:
    with SimulatorProcess() as first:
        with pytest.raises(RuntimeError, match="ddress already in use"):
            with SimulatorProcess(SimulatorConfig(port=first.port)):
                pass
        assert api(first, "/operations/v1").status == 200


def test_a_data_file_that_is_no_json_is_named_in_the_error(tmp_path: Path) -> None:
    data = tmp_path / "notes.txt"
    data.write_text("[not json")
    with pytest.raises(RuntimeError, match=r"notes\.txt"), SimulatorProcess(SimulatorConfig(data=data)):
        pass


def test_a_stopped_simulator_can_be_stopped_again() -> None:
    with SimulatorProcess() as simulator:
        simulator.stop()
    simulator.stop()


def test_a_configuration_survives_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimulatorConfig(
        port=8123,
        days=3,
        seed=-4,
        scale=0.5,
        data=Path("events.json"),
        now=datetime(2026, 6, 30, 10, 30, tzinfo=timezone.utc),
        bundle_hours=6,
        bundle_ids="text",
        api_key="-key",
        rate_limit=2,
        rate_limit_s=1.5,
        export_s=0,
        location_s=9,
    )
    # The key is not on it: whoever is logged in can read the command lines of all.
    assert not any(config.api_key in argument for argument in config.arguments())
    assert parse_arguments([*config.arguments(), f"--api-key={config.api_key}"]) == (config, False)
    monkeypatch.setenv(KEY_VARIABLE, config.api_key)
    assert parse_arguments(config.arguments()) == (config, False)
    monkeypatch.delenv(KEY_VARIABLE)
    assert parse_arguments([]) == (SimulatorConfig(), False)


@pytest.mark.parametrize(
    "arguments",
    [["--days=0"], ["--scale=-1"], ["--now=yesterday"], ["--now=2026-06-30T10:00:00"], ["--bundle-hours=5"]],
)
def test_an_argument_that_makes_no_sense_is_wrong_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    assert ended.value.code == 2
    assert arguments[0].split("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["2026-06-30T10:30:00.5Z", "2026-06-30T12:30:00.500+02:00", "2026-06-30T10:30:00.500000000Z"],
)
def test_an_instant_is_read_in_every_spelling_rfc_3339_has(text: str) -> None:
    assert format_instant(parse_instant(text)) == "2026-06-30T10:30:00.500Z"
