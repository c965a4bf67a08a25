"""What the pages say is so: settings, columns, commands, links, versions, and the README's own queries."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import typer

import fullstory_dagster
from fullstory_dagster.cli import app
from fullstory_dagster.fields import EVENT_COLUMNS
from fullstory_dagster.ingest.status import STATES
from fullstory_dagster.settings import SETTINGS
from fullstory_dagster.simulator.config import parse_arguments
from fullstory_dagster.store.tables import BUILDS, EVENTS, EVENTS_COMPAT, LOADS, REJECTED
from fullstory_dagster_tests.analytics import PAGE as ANALYTICS_PAGE
from fullstory_dagster_tests.analytics import questions

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md"))]

_FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_MAX_IMAGE_BYTES = 150_000
_NOT_ON_EVERY_DAY = ("Errors", "Anomalies", "Engagement", "Web vitals")
"""What one day of the demo may have nothing, or too little, of."""

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def test_the_settings_table_of_the_readme_is_the_list_of_settings() -> None:
    expected = [(f"`{setting.name}`", setting.default, setting.meaning) for setting in SETTINGS]
    refuse_differences(table_below(README, "## Settings"), expected)


def test_the_columns_page_is_the_list_of_columns() -> None:
    expected = []
    for field in EVENT_COLUMNS:
        marks = {"personal": field.is_personal, "required": field.is_required}
        about = ", ".join([field.group, *(mark for mark, is_set in marks.items() if is_set)])
        expected.append((f"`{field.name}`", field.duckdb_type, about, field.description))
    refuse_differences(table_below(ROOT / "docs" / "schema.md", "# Columns"), expected)


def test_the_readme_counts_the_columns() -> None:
    n_system = sum(field.group == "system" for field in EVENT_COLUMNS)
    said = next(row for row in table_below(README, "## Tables") if row[0] == f"`{EVENTS}`")[2]
    assert f"{len(EVENT_COLUMNS) - n_system - 1} columns" in said
    assert f"{n_system} of ours" in said


def test_the_readme_names_every_table_and_no_other() -> None:
    models = {path.stem for path in (ROOT / "dbt_project" / "models").glob("**/*.sql")}
    named = {name for row in table_below(README, "## Tables") for name in re.findall(r"`(\w+)`", row[0])}
    assert named == models | {EVENTS, EVENTS_COMPAT, LOADS, REJECTED, BUILDS}


def test_the_pages_explain_every_state_of_a_window_that_is_not_loaded() -> None:
    symptoms = [row[0] for row in table_below(ROOT / "docs" / "troubleshooting.md", "# Troubleshooting")]
    for state in STATES.keys() - {"loaded"}:
        assert f"a window is `{state}`" in symptoms


@page
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for code in code_of(page) for target in re.findall(r"(?<!\S)make ([a-z]+)", code)}
    assert named <= targets


@page
def test_every_command_and_option_exists(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for code in code_of(page):
        for name, rest in re.findall(r"fullstory-dagster ([a-z]+)([^\n`]*)", code):
            assert name in commands, code
            options = {option for parameter in commands[name].params for option in parameter.opts}
            if name == "simulate":
                options = simulator_options()
            assert set(re.findall(r"--[a-z-]+", rest)) <= options, code


def test_the_readme_names_every_command() -> None:
    named = {name for code in code_of(README) for name in re.findall(r"fullstory-dagster ([a-z]+)", code)}
    assert named == typer.main.get_command(app).commands.keys()  # type: ignore[attr-defined]


@page
def test_every_setting_named_is_one(page: Path) -> None:
    named = set(re.findall(r"FULLSTORY_(?!TESTS_)[A-Z][A-Z_]*", page.read_text()))
    in_files = {f"{setting.name}_FILE" for setting in SETTINGS if setting.is_secret}
    assert named <= {setting.name for setting in SETTINGS} | in_files


@page
def test_links_and_pictures_exist_and_pictures_are_small(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file = (page.parent / target.split("#")[0]).resolve()
        assert file.is_file(), f"{page.name} links to {target}"
        assert file.suffix not in (".png", ".jpg", ".svg") or file.stat().st_size < _MAX_IMAGE_BYTES, target


def test_package_project_file_and_changelog_agree_on_the_version() -> None:
    # Read as text: Python 3.10 has no TOML reader.
    in_project = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    in_changelog = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert in_project
    assert in_changelog
    assert in_project[1] == in_changelog[1] == fullstory_dagster.__version__


@pytest.mark.slow
def test_the_pages_queries_run_on_the_demo(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FULLSTORY_", "DAGSTER_"))}
    demo = [sys.executable, "-m", "fullstory_dagster.cli", "demo", "--days", "1"]
    subprocess.run(demo, cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
    queries = (ROOT / "docs" / "query.md").read_text()
    fenced = [(match["language"], match["text"]) for match in _FENCED.finditer(queries)]

    (program,) = [text for language, text in fenced if language == "python"]
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert "n_rage_clicks" in shown.stdout

    (command,) = [text for language, text in fenced if language == "sh" and text.startswith("duckdb ")]
    said = re.fullmatch(r'duckdb -readonly (?P<file>\S+) "(?P<sql>[^"]+)"\n', command)
    assert said
    import duckdb

    with duckdb.connect(str(tmp_path / said["file"]), read_only=True) as snapshot:
        assert snapshot.sql(said["sql"]).fetchall()
        for entry in questions():
            assert snapshot.sql(entry["sql"]).fetchall() or entry["area"] in _NOT_ON_EVERY_DAY, entry["question"]


def test_the_page_of_analytics_has_every_question_with_its_select() -> None:
    text = ANALYTICS_PAGE.read_text()
    for entry in questions():
        assert f"## {entry['area']}: {entry['question']}\n\n```sql\n{entry['sql']}```\n\n|" in text, entry["question"]
    assert text.count("```sql") == len(questions())


def simulator_options() -> set[str]:
    told = io.StringIO()
    with contextlib.redirect_stdout(told), pytest.raises(SystemExit):
        parse_arguments(["--help"])
    return set(re.findall(r"--[a-z-]+", told.getvalue()))


def code_of(page: Path) -> Iterator[str]:
    """The code on a page: lines of fenced blocks, and inline spans."""
    text = page.read_text()
    for block in _FENCED.finditer(text):
        yield from block["text"].splitlines()
    yield from re.findall(r"`([^`\n]+)`", _FENCED.sub("", text))


def table_below(page: Path, heading: str) -> list[tuple[str, ...]]:
    """The rows of the first table below a heading, without its head."""
    text = page.read_text()
    begin = re.search(rf"^{re.escape(heading)}\b.*$", text, re.MULTILINE)
    assert begin, f"{page.name} has no heading {heading}"
    table = re.search(r"(?:^\|.*\|\n)+", text[begin.end() :], re.MULTILINE)
    assert table, f"no table below {heading}"
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table[0].splitlines()[2:]]
    return [tuple(cell.strip().replace("\\|", "|") for cell in row) for row in rows]


def refuse_differences(said: Sequence[tuple[str, ...]], expected: Sequence[tuple[str, ...]]) -> None:
    lacking = [row for row in expected if row not in said]
    outdated = [row for row in said if row not in expected]
    lines = [f"- | {' | '.join(row)} |" for row in outdated] + [f"+ | {' | '.join(row)} |" for row in lacking]
    assert not lines, "the page differs from the code; take - out, put + in:\n" + "\n".join(lines)
    assert list(said) == list(expected), "the rows stand in another order than in the code"
