"""The command line on a bucket, from a `.env` to the models; and what becomes of the credentials in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster_tests.erased_person import tables_in
from fullstory_dagster_tests.s3_server import ACCESS_KEY, SECRET_KEY, Bucket, refusing_to_write

pytestmark = pytest.mark.slow

N_DAYS = 3


@pytest.fixture
def folder(tmp_path: Path, bucket: Bucket) -> Path:
    """Where an account's `.env` is, which has everything; the environment says nothing of a cloud."""
    start = datetime.now(timezone.utc) - timedelta(days=N_DAYS + 1)
    lines = {
        "FULLSTORY_START_DATE": f"{start:%Y-%m-%d}",
        "FULLSTORY_DUCKDB_THREADS": "1",
        "FULLSTORY_STORE_URL": f"{bucket.url}/",
        "AWS_ENDPOINT_URL": bucket.endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return tmp_path


def fullstory(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-m", "fullstory_dagster.cli", *arguments],
        cwd=folder,
        env=surroundings | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_an_account_lives_in_a_bucket_and_its_credentials_in_the_env_file_alone(folder: Path, bucket: Bucket) -> None:
    with SimulatorProcess(SimulatorConfig(days=N_DAYS + 2, scale=0.05, export_s=0)) as simulator:
        api = {"FULLSTORY_API_KEY": simulator.api_key, "FULLSTORY_API_URL": simulator.url}
        ended = [fullstory(folder, "sync", "--json", **api)]
        assert ended[0].returncode == 0, ended[0].stderr
        summary = json.loads(ended[0].stdout)
        assert (len(summary["loaded"]), summary["failed"]) == (N_DAYS, [])
        tables = tables_in(folder / "data" / "warehouse.duckdb")
        assert len(tables["fullstory.events"]) == summary["rows"] > 1000
        assert len(tables["fullstory.sessions"]) > 10
        assert len(bucket.keys()) == N_DAYS * 5

        # Whoever may not write any more: the store repeats the key it was sent.
        with refusing_to_write(403, "InvalidAccessKeyId") as server:
            ended.append(fullstory(folder, "reset", "--yes", AWS_ENDPOINT_URL=server.url, **api))
        ended += [fullstory(folder, "status", **api), fullstory(folder, "status", "--json", **api)]
    assert ended[1].returncode == 1
    assert "it answers 403 InvalidAccessKeyId. The credentials in the environment have to be right" in ended[1].stdout
    assert "Traceback" not in ended[1].stderr

    said = [text for each in ended for text in (each.stdout, each.stderr)]
    written = [path.read_bytes() for path in (folder / "data").rglob("*") if path.is_file()]
    written += [path.read_bytes() for path in bucket.download(folder / "bucket").rglob("*") if path.is_file()]
    for secret in (ACCESS_KEY, SECRET_KEY):
        assert not any(secret in text for text in said)
        assert not any(secret.encode() in content for content in written)


def test_what_the_environment_does_not_say_is_asked_for_in_one_sentence(folder: Path) -> None:
    ended = fullstory(folder, "sync", FULLSTORY_API_KEY="x", FULLSTORY_STORE_URL="az://container/prefix")
    assert ended.returncode == 2
    assert "STORE_URL is az://container/prefix, but AZURE_STORAGE_ACCOUNT_NAME does not say" in ended.stderr
    assert ended.stderr.count("\n") == 1
