"""What deploy/ and docs/deploy.md promise: files that tools accept, a restore, old tables, two accounts in one UI."""

from __future__ import annotations

import configparser
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
import yaml

from fullstory_dagster.fields import EVENT_COLUMNS
from fullstory_dagster.settings import SETTINGS
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster_tests.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
N_DAYS = 3
TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
START = TODAY - timedelta(days=N_DAYS + 1)


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {
        name: value for name, value in os.environ.items() if not name.startswith(("FULLSTORY_", "DAGSTER_"))
    }
    return subprocess.run(
        command, cwd=cwd, env=surroundings | environment, capture_output=True, text=True, check=False, timeout=240
    )


def fullstory(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "fullstory_dagster.cli", *arguments, cwd=cwd, **environment)


COMPOSE = (DEPLOY / "compose.yaml", DEPLOY / "hosts" / "compose.yaml")
HELM = (DEPLOY / "helm-values.yaml", DEPLOY / "hosts" / "helm-values.yaml")


def test_the_compose_files_are_some() -> None:
    linted = run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *map(str, COMPOSE), cwd=ROOT)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="hadolint has no wheel for it")
def test_the_dockerfile_is_as_hadolint_wants_it() -> None:
    linted = run(str(BIN / "hadolint"), str(DEPLOY / "Dockerfile"), cwd=ROOT)
    assert linted.returncode == 0, linted.stdout


def test_what_the_image_copies_is_there() -> None:
    copied = re.findall(r"^COPY (?:--chown=\S+ )?(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name


def test_services_start_programs_of_the_image() -> None:
    services = {
        (path, name): service
        for path in COMPOSE
        for name, service in yaml.safe_load(path.read_text())["services"].items()
        if service["image"].startswith("fullstory-dagster")
    }
    assert len(services) == 6
    image = (DEPLOY / "Dockerfile").read_text()
    [image_command] = re.findall(r"^CMD (\[.*\])$", image, re.MULTILINE)
    [parse] = re.findall(r"^RUN .* (dagster .*) \\$", image, re.MULTILINE)
    commands = [
        json.loads(image_command),
        parse.split(),
        *(service["command"] for service in services.values() if "command" in service),
    ]
    commands += [service["healthcheck"]["test"][1:] for service in services.values() if "healthcheck" in service]
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "fullstory-dagster.service")
    program, *rest = unit["Service"]["ExecStart"].split()
    assert program == unit["Service"]["WorkingDirectory"] + "/.venv/bin/fullstory-dagster"
    commands.append(["fullstory-dagster", *rest])
    for program, *arguments in commands:
        if program == "python":
            compile(arguments[1], "healthcheck", "exec")
            continue
        words = [word for word in arguments if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
        n_words = 2 if program in ("dagster", "dagster-celery") else 1
        known = run(str(BIN / program), *words[:n_words], "--help", cwd=ROOT)
        assert known.returncode == 0, (program, arguments, known.stderr)
        # Behind -- stands what is Celery's own.
        ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
        for option in (word for word in ours if word.startswith("--")):
            assert option in known.stdout, (program, option)


def in_snake_case(values: Any) -> Any:
    """Keys of the chart as ``dagster.yaml`` has them."""
    if not isinstance(values, dict):
        return values
    return {re.sub("([A-Z])", r"_\1", key).lower(): in_snake_case(value) for key, value in values.items()}


def test_lines_of_the_docs_for_docker_and_kubernetes_name_what_is_there() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    lines = re.findall(r"docker compose --file (\S+) (.*)", (ROOT / "docs" / "deploy.md").read_text())
    assert len(lines) == 2
    for file, rest in lines:
        assert ROOT / file == DEPLOY / "compose.yaml"
        verb, *arguments = rest.split()
        if verb == "exec":
            service, *command = arguments
            assert service in compose["services"]
            assert command[0] == "fullstory-dagster"
    for file in re.findall(r"> (deploy/\S+)", (ROOT / "docs" / "deploy.md").read_text()):
        [secret] = compose["secrets"].values()
        assert DEPLOY / secret["file"] == ROOT / file
    [deployment] = yaml.safe_load((DEPLOY / "helm-values.yaml").read_text())["dagster-user-deployments"]["deployments"]
    [secret] = deployment["envSecrets"]
    assert f"kubectl create secret generic {secret['name']} " in (ROOT / "docs" / "deploy.md").read_text()
    [volume] = deployment["volumes"]
    assert f"`{volume['persistentVolumeClaim']['claimName']}`" in (ROOT / "docs" / "deploy.md").read_text()


def test_the_workspace_names_the_code_location() -> None:
    [server] = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert server["grpc_server"]["host"] in services
    [module] = yaml.safe_load((DEPLOY / "hosts" / "workspace.yaml").read_text())["load_from"]
    assert module == yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"][0]


@pytest.mark.parametrize("path", HELM, ids=["one host", "several hosts"])
def test_the_chart_s_values_are_those_of_dagster_s_instance(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    [deployment] = values["dagster-user-deployments"]["deployments"]
    assert "fullstory_dagster.definitions" in deployment["dagsterApiGrpcArgs"]
    names = {variable["name"] for variable in deployment["env"]}
    assert names <= {setting.name for setting in SETTINGS}
    is_one = path.parent == DEPLOY
    instance = yaml.safe_load((ROOT if is_one else path.parent).joinpath("dagster.yaml").read_text())
    assert in_snake_case(values["concurrency"]) == {"enabled": True} | instance["concurrency"]
    monitoring = in_snake_case(values["dagsterDaemon"]["runMonitoring"])
    assert monitoring.items() <= instance["run_monitoring"].items()
    assert in_snake_case(values["dagsterDaemon"]["runRetries"]).items() <= instance["run_retries"].items()
    if is_one:
        launcher = values["runLauncher"]["config"]["customRunLauncher"]
        module = __import__(launcher["module"], fromlist=[launcher["class"]])
        assert getattr(module, launcher["class"])


def test_the_settings_of_several_hosts_are_settings() -> None:
    compose = yaml.safe_load((DEPLOY / "hosts" / "compose.yaml").read_text())
    given = compose["services"]["worker"]["environment"]
    ours = {name.removesuffix("_FILE") for name in given if name.startswith("FULLSTORY_")}
    assert ours <= {setting.name for setting in SETTINGS}
    # What the instance and Celery read of the environment is there.
    files = [(DEPLOY / "hosts" / name).read_text() for name in ("dagster.yaml", "celery.yaml")]
    assert {name for text in files for name in re.findall(r"\{env: (\w+)\}", text)} <= given.keys()
    extras = compose["services"]["worker"]["build"]["args"]["EXTRAS"].split(",")
    assert set(extras) <= set(metadata("fullstory-dagster").get_all("Provides-Extra") or ())


def test_dagster_takes_the_instance_of_several_hosts(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "DAGSTER_POSTGRES_HOST": postgres.address,
        "DAGSTER_POSTGRES_PORT": str(postgres.port),
        "DAGSTER_POSTGRES_USER": "lake",
        "DAGSTER_POSTGRES_PASSWORD": "of nobody",
        "DAGSTER_POSTGRES_DB": postgres.new_database(),
        "DAGSTER_CELERY_BROKER": "redis://127.0.0.1:1/0",
        "DAGSTER_CELERY_BACKEND": "redis://127.0.0.1:1/1",
    }.items():
        monkeypatch.setenv(name, value)
    shutil.copy(DEPLOY / "hosts" / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert type(instance.run_launcher).__name__ == "CeleryRunLauncher"
        pools = instance.get_concurrency_config().pool_config
        assert pools.default_pool_limit == 1
        assert instance.run_monitoring_max_runtime_seconds == 7200
        assert instance.get_runs() == []


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(SimulatorConfig(days=N_DAYS + 1, scale=0.3, export_s=0)) as running:
        yield running


def account(simulator: SimulatorProcess, **changes: str) -> dict[str, str]:
    return {
        "FULLSTORY_API_KEY": simulator.api_key,
        "FULLSTORY_API_URL": simulator.url,
        "FULLSTORY_START_DATE": f"{START:%Y-%m-%d}",
    } | changes


def contents(warehouse: Path) -> dict[str, list[Any]]:
    """Events and what the models made of them, but for when they were loaded."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        return {
            name: connection.execute(f"SELECT {columns} FROM fullstory.{name} ORDER BY ALL").fetchall()
            for name, columns in {
                "events": "* EXCLUDE (_loaded_at, _load_id, _export_id)",
                "sessions": "*",
                "session_timeline": "*",
            }.items()
        }


@pytest.mark.slow
def test_a_restored_backup_goes_on_where_it_was_and_ends_up_the_same(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    environment = account(simulator)
    second = f"{START + timedelta(days=2):%Y-%m-%d}"
    assert fullstory("sync", "--to", second, cwd=tmp_path, **environment).returncode == 0
    backup.mkdir()
    shutil.copy(data / "read" / "warehouse.duckdb", backup)
    shutil.copytree(data / "bundles", backup / "bundles")
    # The account goes on, and is lost.
    assert fullstory("sync", cwd=tmp_path, **environment).returncode == 0
    lost = contents(data / "warehouse.duckdb")
    shutil.rmtree(data)

    data.mkdir()
    shutil.copy(backup / "warehouse.duckdb", data)
    shutil.copytree(backup / "bundles", data / "bundles")
    synced = json.loads(fullstory("sync", "--json", cwd=tmp_path, **environment).stdout)
    assert len(synced["loaded"]) == N_DAYS - 2
    assert synced["failed"] == []
    assert len(lost["events"]) > 2_000
    assert contents(data / "warehouse.duckdb") == lost


@pytest.fixture(scope="module")
def loaded(simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an account that FullStory's own export was loaded into."""
    folder = tmp_path_factory.mktemp("loaded")
    synced = fullstory("sync", "--no-dbt", cwd=folder, **account(simulator))
    assert synced.returncode == 0, synced.stderr
    return folder


THEIRS = [field.name for field in EVENT_COLUMNS if field.group != "system"]


def hausers_table(connection: duckdb.DuckDBPyConnection) -> str:
    """Make a table as hauser does; the statement that writes it down is in the docs."""
    connection.execute("CREATE SCHEMA hauser")
    columns = ", ".join(map('"{}"'.format, THEIRS))
    connection.execute(f"CREATE TABLE hauser.fsexport AS SELECT {columns} FROM ours.fullstory.events")
    [statement] = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)
    return str(statement)


def stitchs_table(connection: duckdb.DuckDBPyConnection) -> str:
    """Make a table as Stitch does, a column for each variable; the statement that writes it down is a file."""
    names = connection.execute("SELECT DISTINCT unnest(json_keys(CustomVars)) FROM ours.fullstory.events").fetchall()
    variables = sorted(name for (name,) in names)
    assert len(variables) > 10
    columns = [f'"{name}" AS {name.lower()}' for name in THEIRS if name != "CustomVars"]
    for name in variables:
        kinds = {"int": "BIGINT", "real": "DOUBLE", "bool": "BOOLEAN", "strs": "JSON", "reals": "JSON"}
        kind = kinds.get(name.rsplit("_", 1)[-1], "VARCHAR")
        columns.append(f"""CAST(CustomVars ->> '$."{name}"' AS {kind}) AS "{name}\"""")
    connection.execute("CREATE SCHEMA stitch_fullstory")
    connection.execute(
        f"CREATE TABLE stitch_fullstory.events AS SELECT {', '.join(columns)}, now() AS _sdc_batched_at "
        "FROM ours.fullstory.events"
    )
    return (DEPLOY / "stitch_events.sql").read_text()


def load_from_their_table(
    make_table: Callable[[duckdb.DuckDBPyConnection], str], loaded: Path, folder: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events as FullStory's own export brought them, and as an old table did."""
    with duckdb.connect(str(folder / "theirs.duckdb")) as connection:
        connection.execute(f"ATTACH '{loaded / 'data' / 'warehouse.duckdb'}' AS ours (READ_ONLY)")
        statement = make_table(connection)
        connection.execute("DETACH ours")
        connection.execute(statement.replace("old_events.ndjson", str(folder / "old_events.ndjson")))
    with SimulatorProcess(SimulatorConfig(data=folder / "old_events.ndjson")) as served:
        synced = fullstory("sync", "--no-dbt", "--json", cwd=folder, **account(served))
    assert json.loads(synced.stdout)["failed"] == [], synced.stdout
    return events(loaded), events(folder)


def events(folder: Path) -> list[dict[str, Any]]:
    with duckdb.connect(str(folder / "data" / "warehouse.duckdb"), read_only=True) as connection:
        found = connection.execute(
            "SELECT * EXCLUDE (_loaded_at, _load_id, _export_id) FROM fullstory.events ORDER BY ALL"
        )
        names = [column[0] for column in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    assert len(rows) > 2_000
    return rows


@pytest.mark.slow
def test_a_table_of_hauser_s_comes_through_the_same_pipeline(loaded: Path, tmp_path: Path) -> None:
    ours, theirs = load_from_their_table(hausers_table, loaded, tmp_path)
    assert theirs == ours


@pytest.mark.slow
def test_a_table_of_stitch_s_comes_through_the_same_pipeline(loaded: Path, tmp_path: Path) -> None:
    # Its columns know neither the digits of a number, on which ids depend, nor an explicit null.
    def of_values(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            del row["_event_id"]
            variables = json.loads(row["CustomVars"] or "{}")
            row["CustomVars"] = {name: value for name, value in variables.items() if value is not None}
        return sorted(rows, key=str)

    ours, theirs = load_from_their_table(stitchs_table, loaded, tmp_path)
    assert of_values(theirs) == of_values(ours)


@contextmanager
def webserver(workspace: Path, home: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(BIN / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(port), "-w", str(workspace)]
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": str(workspace.parent)}
    with (home / "webserver.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"{url}/server_info", timeout=2).close()
                    break
                except (urllib.error.URLError, OSError):
                    assert process.poll() is None, (home / "webserver.log").read_text()
                    time.sleep(0.5)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.slow
def test_two_accounts_live_in_one_ui(simulator: SimulatorProcess, tmp_path: Path) -> None:
    module = """
from datetime import datetime, timezone
from pathlib import Path

from fullstory_dagster.definitions import build_definitions
from fullstory_dagster.settings import Settings

settings = Settings(
    start=datetime({start.year}, {start.month}, {start.day}, tzinfo=timezone.utc),
    api_key="{key}",
    api_url="{url}",
    data_dir=Path("{folder}"),
    schema="{name}",
)
defs = build_definitions(settings)
"""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    names = ("shop", "app")
    for name in names:
        text = module.format(
            start=START, key=simulator.api_key, url=simulator.url, folder=tmp_path / f"{name}_data", name=name
        )
        (tmp_path / f"{name}.py").write_text(text)
    loads = """
import dagster as dg
import app, shop

with dg.DagsterInstance.get() as instance:
    for defs in (app.defs, shop.defs):
        for groups in (["fullstory_1_ingest"], ["fullstory_2_staging", "fullstory_3_marts"]):
            chosen = dg.AssetSelection.groups(*groups) - dg.AssetSelection.all_asset_checks()
            whole = dg.Definitions.merge(defs, dg.Definitions(jobs=[dg.define_asset_job("once", selection=chosen)]))
            job = whole.resolve_job_def("once")
            assert job.execute_in_process(instance=instance, partition_key="{key}").success
"""
    (tmp_path / "loads.py").write_text(loads.format(key=f"{START:%Y-%m-%d}"))
    ran = run(sys.executable, str(tmp_path / "loads.py"), cwd=tmp_path, DAGSTER_HOME=str(home))
    assert ran.returncode == 0, ran.stderr[-3000:]
    workspace = tmp_path / "workspace.yaml"
    locations = [{"python_module": {"module_name": name, "location_name": name}} for name in names]
    workspace.write_text(yaml.safe_dump({"load_from": locations}))

    for name in names:
        folder = tmp_path / f"{name}_data"
        with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as connection:
            schemas = {
                row[0] for row in connection.execute("SELECT DISTINCT schema_name FROM duckdb_tables()").fetchall()
            }
            assert schemas == {name}
            [(n_sessions,)] = connection.execute(f"SELECT count(*) FROM {name}.sessions").fetchall()
            assert n_sessions > 10

    query = (
        "{ assetNodes { assetKey { path } repository { location { name } } "
        "assetMaterializations(limit: 1) { runId } } }"
    )
    with webserver(workspace, home) as url:
        request = urllib.request.Request(
            f"{url}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            nodes = json.load(answer)["data"]["assetNodes"]
    shown = {(node["repository"]["location"]["name"], *node["assetKey"]["path"]) for node in nodes}
    materialized = {tuple(node["assetKey"]["path"]) for node in nodes if node["assetMaterializations"]}
    for name in names:
        for asset in ("raw_bundles", "events", "sessions", "experience_report"):
            assert (name, name, asset) in shown
        assert {(name, "events"), (name, "sessions")} <= materialized


@pytest.mark.slow
def test_dg_checks_and_lists_the_definitions(tmp_path: Path) -> None:
    environment = {"FULLSTORY_DATA_DIR": str(tmp_path / "data"), "DG_CLI_CONFIG": str(tmp_path / "dg.toml")}
    checked = run(str(BIN / "dg"), "check", "defs", cwd=ROOT, **environment)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    listed = run(str(BIN / "dg"), "list", "defs", "--json", cwd=ROOT, **environment)
    assert listed.returncode == 0, listed.stderr
    names = {asset["asset_key"] for asset in json.loads(listed.stdout)["assets"]}
    assert {"fullstory/raw_bundles", "fullstory/events", "fullstory/sessions"} <= names
