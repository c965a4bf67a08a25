"""The benchmarks, small: they run, and no ratio is twice as bad as usual."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scaling_page
from benchmarks.__main__ import quick_parts
from benchmarks.growth import BUDGETS
from benchmarks.table import GROSS, PAGE, Row, page, usual
from fullstory_dagster_tests import postgres
from fullstory_dagster_tests.counts import IS_SOAK
from fullstory_dagster_tests.dbt_project.warehouse import MARTS

pytestmark = pytest.mark.slow

_TRIES = 3
"""Whatever else the machine does makes a ratio worse now and then, and hardly ever so often."""


ON_POSTGRES = ("scaling_lake", "workers")
"""What they do to lakes and by several hosts, other tests do as well: a minute that every run need not wait for."""


@pytest.mark.soak
@pytest.mark.parametrize(
    "part",
    [
        pytest.param(
            part,
            marks=[
                pytest.mark.skipif(not IS_SOAK, reason="make soak runs it"),
                pytest.mark.skipif(postgres.is_missing(), reason="needs PostgreSQL"),
            ],
        )
        if part in ON_POSTGRES
        else part
        for part in quick_parts()
    ],
)
def test_no_ratio_is_much_worse_than_usual(part: str, tmp_path: Path) -> None:
    known = usual()
    worse: dict[str, float] = {}
    for n in range(_TRIES):
        (tmp_path / str(n)).mkdir()
        rows = list(quick_parts()[part](tmp_path / str(n)))
        assert rows
        steady = [row for row in rows if row.is_steady]
        assert {row.key for row in steady} <= known.keys(), "python -m benchmarks --quick --usual"
        now = {row.key: row.times_worse(known[row.key]) for row in steady}
        worse = {key: min(times, worse.get(key, times)) for key, times in now.items()}
        if max(worse.values(), default=0.0) < GROSS:
            return
    assert {key: times for key, times in worse.items() if times >= GROSS} == {}


def test_the_committed_page_is_made_of_what_was_measured() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_numbers_on_scaling_are_what_was_measured() -> None:
    page = scaling_page.PAGE.read_text(encoding="utf-8")
    assert page == scaling_page.renewed(page)


def test_a_ratio_says_how_much_worse_it_is_and_whether_its_goal_is_met() -> None:
    ceiling = Row("Load", "CPU", "2 s", "1 s", 2.0, goal=1.5)
    floor = Row("Load", "throughput", "1/s", "2/s", 0.5, goal=0.4, is_floor=True)
    assert (ceiling.is_met, floor.is_met, Row("Load", "told", "1", "1", 1.0).is_met) == (False, True, None)
    assert ceiling.times_worse(1.0) == 2.0
    assert floor.times_worse(1.0) == 2.0
    assert ceiling.cells() == ["CPU", "2 s", "1 s", "2.00", "≤ 1.5", "**no**"]


def test_every_model_that_grows_has_a_time_budget() -> None:
    assert BUDGETS.keys() == MARTS.keys()
