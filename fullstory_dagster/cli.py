"""The commands a person types. Thin: settings in, one function of the package, words out.

Exit codes: 0 done, 1 failed, 2 wrong use. Errors are one sentence on stderr. Dagster and dbt are imported only by the
commands that need them, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, nullcontext
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fullstory_dagster import __version__
from fullstory_dagster.disk import disk_error
from fullstory_dagster.errors import FullStoryError, SettingsError, UsageError

if TYPE_CHECKING:
    from fullstory_dagster.defs.dbt.project import DbtBuild
    from fullstory_dagster.forgotten import Given, Kind
    from fullstory_dagster.ingest.ingestion import Ingestion
    from fullstory_dagster.ingest.sync import SyncSummary

app = typer.Typer(
    name="fullstory-dagster",
    help="FullStory's behavioural events in your own DuckDB, exactly once, with dbt analytics on top.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_INTERRUPTED = 130
_GRACE_S = 10.0
_POLL_S = 0.5
_AS_IS: dict[str, Any] = {"markup": False, "soft_wrap": True}
"""For lines with a path or an error in them: nothing in them is markup, and none is cut where a terminal ends."""

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

From = Annotated[str | None, typer.Option("--from", metavar="DATE", help="First instant, date or RFC 3339, UTC.")]
To = Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last instant, excluded; by default now.")]
Jobs = Annotated[int | None, typer.Option(min=1, max=64, help="Windows fetched and parsed at a time.")]
NoDbt = Annotated[bool, typer.Option("--no-dbt", help="Load only; the next build picks the windows up.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of words.")]


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Settings come from the environment or `.env`; options only say what to do."""
    from fullstory_dagster.dotenv_file import export_cloud_variables

    export_cloud_variables(Path(".env"))


@app.command()
def init() -> None:
    """Connect an account: take the API key, check it against FullStory, write `.env` with the start date fixed."""
    from fullstory_dagster.dotenv_file import write_dotenv
    from fullstory_dagster.ingest.opening import open_ingestion
    from fullstory_dagster.settings import read_settings

    midnight = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    settings = read_settings(default_start=midnight - timedelta(days=365))
    if settings.api_key is None:
        if not sys.stdin.isatty():
            raise UsageError("There is no terminal to ask for the key on; set FULLSTORY_API_KEY and run init again.")
        key = typer.prompt("FullStory API key (Settings > Integrations & API Keys)", hide_input=True).strip()
        settings = read_settings(os.environ | {"FULLSTORY_API_KEY": key}, default_start=settings.start)
    with open_ingestion(settings).client() as client:
        client.check_key(settings.export_api)
    path = Path(".env")
    added = write_dotenv(path, settings)
    out.print(f"The key works. {path} {'now holds ' + ', '.join(added) if added else 'needed nothing new'}.")
    out.print(f"Windows of {settings.bundle_hours} h from {settings.start:%Y-%m-%d} on: run 'fullstory-dagster sync'.")


@app.command()
def sync(from_: From = None, to: To = None, jobs: Jobs = None, no_dbt: NoDbt = False, as_json: AsJson = False) -> None:
    """Load every available window that is not loaded yet, then build the dbt models once."""
    from fullstory_dagster.ingest.sync import sync as sync_windows

    ingestion = _ingestion()
    with _progress(as_json, "Loading") as progress:
        summary = sync_windows(ingestion, start=_instant(from_), end=_instant(to), jobs=jobs, progress=progress)
    _finish(ingestion, summary, no_dbt, as_json)


@app.command()
def reset(
    from_: From = None,
    to: To = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Take windows with far fewer rows than they had.")
    ] = False,
    jobs: Jobs = None,
    no_dbt: NoDbt = False,
    as_json: AsJson = False,
) -> None:
    """Load windows again, from the kept bundles or FullStory; each replaces its rows when the new ones are there."""
    from fullstory_dagster.ingest.sync import reset as reset_windows

    ingestion = _ingestion()
    start, end = _instant(from_), _instant(to)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("There is no terminal to ask on; add --yes to load the range again.")
        begins = start or ingestion.settings.start
        until = f"to {end:%Y-%m-%d %H:%M} UTC" if end else "on"
        typer.confirm(f"Load every window from {begins:%Y-%m-%d %H:%M} UTC {until} again?", abort=True)
    with _progress(as_json, "Loading again") as progress:
        summary = reset_windows(
            ingestion, start=start, end=end, jobs=jobs, allow_shrink=allow_shrink, progress=progress
        )
    _finish(ingestion, summary, no_dbt, as_json)


@app.command()
def forget(
    email: Annotated[str | None, typer.Option("--email", metavar="EMAIL", help="Whose e-mail is this.")] = None,
    app_key: Annotated[str | None, typer.Option("--app-key", metavar="KEY", help="Whose UserAppKey is this.")] = None,
    indv_id: Annotated[str | None, typer.Option("--indv-id", metavar="ID", help="Whose IndvId is this.")] = None,
    always: Annotated[bool, typer.Option("--always", help="Also whatever they do from now on.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a person from events, models, files and kept bundles, and keep them out of later loads; leaves a receipt.

    Exit code 1 also when nobody was found: the list keeps them out of later loads all the same.
    """
    from fullstory_dagster.console import print_receipt
    from fullstory_dagster.ingest.forget import find_person
    from fullstory_dagster.ingest.forget import forget as forget_person

    given = _given(email, app_key, indv_id)
    ingestion = _ingestion()
    if not yes and not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask on; add --yes to erase the person.")
    is_shown = out.is_terminal and not as_json
    with out.status("Reading the warehouse and every kept bundle …") if is_shown else nullcontext():
        found = find_person(ingestion, given)
    if not as_json:
        out.print(found.sentence(), **_AS_IS)
    if not yes:
        from_now = "and whatever they do from now on" if always else "up to now"
        what = "Put them on the list of erased people" if found.is_nothing else "Erase all of it"
        typer.confirm(f"{what}, {from_now}? There is no way back.", abort=True)
    builds: list[DbtBuild] = []

    def build() -> int:
        return _build_what_is_owed(ingestion, builds, is_silent=as_json)

    try:
        with out.status("Erasing …") if is_shown else nullcontext():
            receipt = forget_person(ingestion, found.names, always=always, build_models=build)
    except (FullStoryError, OSError):
        err.print("The person is not erased everywhere yet; the sentence below says why.", style="red", **_AS_IS)
        raise
    failures = [failure for built in builds for failure in built.failures]
    if as_json:
        _print_json(receipt.as_object() | {"receipt": str(receipt.path), "dbt_failures": failures})
    else:
        print_receipt(out, receipt, failures)
    if receipt.not_done or failures or (found.is_nothing and not found.is_listed):
        raise typer.Exit(1)


@app.command()
def status(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 unless every window is loaded or on its way.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say which windows are loaded, missing, partial, unsettled, empty or failed, and what is in the warehouse."""
    from fullstory_dagster.console import print_status, status_object
    from fullstory_dagster.ingest.gaps import find_gaps
    from fullstory_dagster.ingest.status import read_status

    current = read_status(_ingestion())
    if as_json:
        _print_json(status_object(current))
    else:
        print_status(out, current)
    if check and not all(gap.is_expected for gap in find_gaps(current)):
        raise typer.Exit(1)


@app.command()
def transfer(
    to: Annotated[str, typer.Argument(metavar="WAREHOUSE", help="As FULLSTORY_WAREHOUSE names it.")],
    as_json: AsJson = False,
) -> None:
    """Copy what was loaded into another warehouse: a file into a lake, or back. This one stays as it is."""
    from fullstory_dagster.ingest.opening import open_ingestion
    from fullstory_dagster.settings import read_settings
    from fullstory_dagster.store.transfer import copy_warehouse
    from fullstory_dagster.warehouse_location import read_location

    settings = read_settings()
    try:
        other = settings.with_changes(warehouse=read_location(to))
    except ValueError as error:
        raise UsageError(f"WAREHOUSE {error}.") from None
    source, target = (open_ingestion(of).warehouse for of in (settings, other))
    with out.status("Copying …") if out.is_terminal and not as_json else nullcontext():
        copied = copy_warehouse(source, target, settings.scratch_dir / f"{os.getpid()}-transfer")
    if as_json:
        _print_json({"from": str(source.database), "to": str(target.database), "rows": copied})
        return
    rows = ", ".join(f"{n:,} rows of {name}" for name, n in copied.items())
    out.print(f"Copied {rows} into {target.database}; {source.database} is unchanged.", **_AS_IS)
    out.print("Set FULLSTORY_WAREHOUSE to it and run 'fullstory-dagster sync', which builds the models there.")


@app.command()
def report(
    is_opened: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw the experience report of the newest four weeks: one HTML file; without an API key the demo's."""
    from fullstory_dagster.demo import settings_or_demo
    from fullstory_dagster.ingest.opening import open_ingestion
    from fullstory_dagster.report.page import write_report
    from fullstory_dagster.store.report_file import ReportFile

    settings = settings_or_demo()
    with out.status("Drawing …") if out.is_terminal and not as_json else nullcontext():
        drawn = write_report(
            open_ingestion(settings).warehouse, ReportFile(settings.report_path), datetime.now(timezone.utc)
        )
    first, last = drawn.data.first_date.isoformat(), drawn.data.last_date.isoformat()
    if as_json:
        _print_json({"path": str(drawn.path), "first_date": first, "last_date": last, "bytes": drawn.bytes})
    else:
        out.print(f"The experience report, {first} to {last}: {drawn.path} ({drawn.bytes / 1000:,.0f} kB)", **_AS_IS)
    if is_opened:
        typer.launch(str(drawn.path))


@app.command()
def demo(
    days: Annotated[int | None, typer.Option(min=1, max=365, help="Daily windows to load.  [default: 7]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Which made-up site.  [default: 1]")] = None,
) -> None:
    """Try everything without an account: simulator, sync, dbt, a session's timeline and page durations."""
    from fullstory_dagster.console import print_rows
    from fullstory_dagster.demo import demo_account, example_session, longest_pages
    from fullstory_dagster.ingest.opening import open_ingestion
    from fullstory_dagster.ingest.sync import sync as sync_windows
    from fullstory_dagster.report.page import write_report
    from fullstory_dagster.store.report_file import ReportFile

    account = demo_account(days=days, seed=seed)
    out.print(f"A made-up shop (seed {account.seed}) from {account.start:%Y-%m-%d} on, in {account.home}", **_AS_IS)
    with account.simulator() as simulator:
        ingestion = open_ingestion(account.settings(simulator.url))
        with _progress(False, "Loading") as progress:
            summary = sync_windows(ingestion, progress=progress)
        _finish(ingestion, summary, no_dbt=False, as_json=False)
    assert ingestion.snapshot is not None  # noqa: S101 (the demo is in a file)
    ingestion.snapshot.publish()
    drawn = write_report(ingestion.warehouse, ReportFile(ingestion.settings.report_path), datetime.now(timezone.utc))
    out.print()
    print_rows(out, "What one visitor did (session_timeline)", example_session(ingestion.warehouse))
    out.print()
    print_rows(out, "Where people spend their time (page_durations)", longest_pages(ingestion.warehouse))
    out.print()
    out.print("Open next:")
    out.print(f"  {drawn.path}  the experience report, in a browser", **_AS_IS)
    out.print("  fullstory-dagster dev       Dagster's UI on http://127.0.0.1:3000, on this data", **_AS_IS)
    out.print(f"  {ingestion.snapshot.path}  the same tables, for any DuckDB client", **_AS_IS)


@app.command()
def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI, on this machine only.")] = 3000,
) -> None:
    """Run Dagster's UI and daemon, with its home and pools in place; without an API key on the demo's data."""
    from fullstory_dagster.defs.dbt.project import DbtProject
    from fullstory_dagster.defs.home import PROJECT_ROOT, prepare_home
    from fullstory_dagster.demo import DEMO_URL, demo_account
    from fullstory_dagster.settings import read_settings, settings_exist

    with ExitStack() as stack:
        environment = dict(os.environ)
        if settings_exist():
            settings = read_settings()
        else:
            account = demo_account()
            simulator = stack.enter_context(account.simulator())
            settings = account.settings(simulator.url)
            environment[DEMO_URL] = simulator.url
            out.print(f"No FULLSTORY_API_KEY: running on the demo in {account.home}, with its simulator.", **_AS_IS)
        environment["DAGSTER_HOME"] = str(prepare_home(settings))
        DbtProject(settings).manifest()
        command = [sys.executable, "-m", "dagster", "dev", "-w", str(PROJECT_ROOT / "workspace.yaml")]
        process = subprocess.Popen([*command, "-h", "127.0.0.1", "-p", str(port)], env=environment)  # noqa: S603
        raise typer.Exit(_wait(process))


@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
def simulate(arguments: Annotated[list[str] | None, typer.Argument(metavar="[OPTIONS]")] = None) -> None:
    """Run the FullStory simulator in the foreground and print its URL; see `simulate --help`."""
    from fullstory_dagster.simulator.__main__ import main as run_simulator

    raise typer.Exit(run_simulator(arguments or []))


def main() -> None:
    """Entry point: runs a command and turns what went wrong into a sentence and an exit code."""
    try:
        app()
    except (SettingsError, UsageError) as error:
        _fail(error, 2)
    except FullStoryError as error:
        _fail(error, 1)
    except OSError as error:
        _fail(disk_error(error, "It stopped") or _sentence_of(error), 1)
    except SystemExit as ended:
        # Typer makes this code of Ctrl-C, and says nothing.
        if ended.code != _INTERRUPTED:
            raise
        err.print("fullstory-dagster: Interrupted; the windows that were loaded are loaded.", style="red", **_AS_IS)
        out.show_cursor(True)
        sys.stdout.flush()
        sys.stderr.flush()
        # Python would wait for threads that wait for FullStory. Nothing they could still do is half done without them.
        os._exit(_INTERRUPTED)


def _print_json(value: object) -> None:
    # Not by rich, which colours what is piped when the environment asks for colours.
    typer.echo(json.dumps(value, indent=2))


def _fail(problem: object, code: int) -> None:
    err.print(f"fullstory-dagster: {problem}", style="red", **_AS_IS)
    sys.exit(code)


def _sentence_of(error: OSError) -> str:
    where = f" of {error.filename}" if error.filename else ""
    return f"The file system says '{error.strerror or error}'{where}; what was loaded before is unchanged."


def _ingestion() -> Ingestion:
    from fullstory_dagster.ingest.opening import open_ingestion
    from fullstory_dagster.settings import read_settings

    return open_ingestion(read_settings())


def _instant(text: str | None) -> datetime | None:
    from fullstory_dagster.setting_values import read_instant

    try:
        return None if text is None else read_instant(text)
    except ValueError as error:
        raise UsageError(f"{text!r} {error}.") from None


def _progress(as_json: bool, what: str) -> Any:
    from fullstory_dagster.console import window_progress

    return nullcontext() if as_json else window_progress(out, what)


def _finish(ingestion: Ingestion, summary: SyncSummary, no_dbt: bool, as_json: bool) -> None:
    """Build dbt once, tell Dagster, print what was done, and exit with 1 if anything failed."""
    from fullstory_dagster.console import print_summary, summary_object

    dbt: dict[str, Any] | None = None
    words = None
    if not no_dbt:
        try:
            if built := _build_models(ingestion, is_silent=as_json):
                dbt = {"models": built.n_models, "tests": built.n_tests, "failures": built.failures}
                words = str(built)
        except FullStoryError as error:
            # The windows are loaded all the same, and that is to be said.
            dbt, words = {"models": 0, "tests": 0, "failures": [str(error)]}, str(error)
    if as_json:
        _print_json(summary_object(summary, dbt))
    else:
        print_summary(out, summary, words)
    _tell_dagster(ingestion)
    if not no_dbt:
        # Also when there was nothing to build: an earlier build may have come too soon after the last copy.
        ingestion.publish_snapshot_if_due()
    if summary.failed or summary.not_deleted or (dbt and dbt["failures"]):
        raise typer.Exit(1)


def _build_models(ingestion: Ingestion, *, is_silent: bool) -> DbtBuild | None:
    from fullstory_dagster.ingest.status import read_status

    if not read_status(ingestion).is_build_due:
        return None
    from fullstory_dagster.defs.dbt.project import DbtProject

    with out.status("Building the dbt models …") if out.is_terminal and not is_silent else nullcontext():
        return DbtProject(ingestion.settings).build(ingestion.warehouse)


def _build_what_is_owed(ingestion: Ingestion, builds: list[DbtBuild], *, is_silent: bool) -> int:
    """Build the models after an erasure, and make sure that none holds what was erased; how many were built."""
    from fullstory_dagster.defs.dbt.project import DbtBuildError, DbtProject
    from fullstory_dagster.ingest.status import read_status

    if not ingestion.warehouse.built_up_to():
        return 0
    built = _build_models(ingestion, is_silent=is_silent)
    if read_status(ingestion).n_pending_loads:
        # Without dbt's own words, which may quote a row.
        failed = ", ".join(failure.split(":")[0] for failure in built.failures) if built else ""
        raise DbtBuildError(
            "The rows are deleted from events, but not all dbt models could be rebuilt, and those may still hold them"
            f"{': ' + failed if failed else ''}. Run 'fullstory-dagster sync' to see why, mend it, and run the same "
            "command again."
        )
    DbtProject(ingestion.settings).delete_logs(ingestion.warehouse)
    builds += [built] if built else []
    return built.n_models if built else 0


def _given(email: str | None, app_key: str | None, indv_id: str | None) -> Given:
    from fullstory_dagster.forgotten import Given

    options: dict[Kind, str | None] = {"email": email, "app_key": app_key, "indv_id": indv_id}
    given = [(kind, value.strip()) for kind, value in options.items() if value is not None]
    if len(given) != 1 or not given[0][1]:
        raise UsageError("Say who is meant by exactly one of --email, --app-key and --indv-id.")
    ((kind, value),) = given
    if kind == "email" and "@" not in value:
        raise UsageError("--email takes an e-mail address; that has no @ in it.")
    if kind == "indv_id" and not (value.isascii() and value.lstrip("-").isdigit()):
        raise UsageError("--indv-id takes a whole number.")
    return Given(kind, str(int(value)) if kind == "indv_id" else value)


def _tell_dagster(ingestion: Ingestion) -> None:
    """What was loaded here shows in Dagster's UI at once if there is a Dagster home; else its sensor tells it later."""
    if (ingestion.settings.dagster_home / "dagster.yaml").exists():
        from fullstory_dagster.defs.history import report_loads_to_home

        report_loads_to_home(ingestion)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child that has children of its own, and let none of them outlive this process."""
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    interrupted_at: float | None = None
    while True:
        try:
            # In short waits: a signal that reaches one of polars' threads does not end a wait of the main one.
            return process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            # Ctrl-C reaches the child as well, and it is given the time to stop its own children; a signal to this
            # process alone has to be passed on.
            if interrupted_at is not None and time.monotonic() - interrupted_at > _GRACE_S:
                process.terminate()
                interrupted_at = None
        except KeyboardInterrupt:
            interrupted_at = time.monotonic()


if __name__ == "__main__":
    main()
