"""Many rows at once: the same result as one value at a time, or none at all."""

from __future__ import annotations

import importlib
import json
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fullstory_dagster.fields import FIELDS
from fullstory_dagster.parse import plain_rows
from fullstory_dagster.parse._plain_rows import Reader
from fullstory_dagster.parse.bundle import BundleParser, read_one_by_one
from fullstory_dagster.parse.plain_rows import read_plain_rows
from fullstory_dagster_tests.counts import IS_SOAK, count
from fullstory_dagster_tests.sample_events import DAY, event

from .test_round_trip import names, values


def compact(row: dict[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False)


def read(*texts: str) -> pl.DataFrame | None:
    return read_plain_rows("\n".join(texts).encode("utf-8", "surrogatepass"))


def one_by_one(*texts: str) -> pl.DataFrame:
    rows, rejects = read_one_by_one([text.encode("utf-8", "surrogatepass") for text in texts], 0, keep_text=True)
    assert not rejects, "what is read at once holds no reject"
    assert rows["_n_misfit"].sum() == 0, "what is read at once holds no misfit"
    said = duckdb.execute("SELECT bool_and(json_valid(v)) FROM unnest($1) u(v)", [rows["CustomVars"].to_list()])
    assert said.fetchone() != (False,), "DuckDB, which does not look, has to take it for JSON"
    return rows.drop("_n_misfit")


def check(*texts: str) -> bool:
    """Whether the rows were read at once; if so, as they are one by one."""
    got = read(*texts)
    if got is None:
        return False
    expected = one_by_one(*texts)
    assert got.columns == expected.columns
    assert got.schema == expected.schema
    assert got.equals(expected)
    assert repr(got["EventCumulativeLayoutShift"].to_list()) == repr(expected["EventCumulativeLayoutShift"].to_list())
    return True


def resident_bytes() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("how much memory a process has is read from Linux's /proc")
    return int(status.read_text().partition("VmRSS:")[2].split()[0]) * 1024


PLAIN = [
    event(),
    event(PageName="", PageUrl='https://x.test/?a="b":c', EventTargetText='says "x": "y", {"a":null}', PageDuration=7),
    event(EventCumulativeLayoutShift=0.1, PageStart="2026-06-01T11:59:59.001Z", IndvId=2**62, ReqStatus=-1),
    event(PageName=None, PageDuration=None, evt_null_str=None, page_x_str="y", user_list_strs=["a", {"b": None}]),
    event(evt_a_str="x", evt_A_str="y", evt_n_int=0, **{"evt_order.id": 1.5, "evt_order_id": True, "évt": "é🎈"}),
    event(PageAgent="old", EventTargetSelectorTok="div .form%2Dcontrol"),
    event(EventTargetSelector="a%20b%zz", EventTargetText="line\nbreak\ttab\\ \u0000 \u2028"),
    event(evt_text_str='a, b: "c" \\', evt_empty_str="", evt_list_strs=["a, b", ""], evt_o={"é": [None, {"b": "ü"}]}),
    event(EventTargetText=":", PageName=":x", evt_colon_str=":y", evt_list_strs=[":", '":', ": "]),
]


@pytest.mark.parametrize("row", PLAIN, ids=range(len(PLAIN)))
def test_a_plain_row_is_read_at_once_as_it_is_one_by_one(row: dict[str, Any]) -> None:
    assert check(compact(row))


def test_blanks_in_a_variable_are_no_part_of_the_identity() -> None:
    spaced = compact(event())[:-1] + ',"evt_list_strs":[ "a, b" ,"c"],"evt_o":{"a": 1, "b":[ ]}}'
    plain = compact(event(evt_list_strs=["a, b", "c"], evt_o={"a": 1, "b": []}))
    assert check(spaced, plain)
    got = read(spaced, plain)
    assert got is not None
    assert got["_event_id"].n_unique() == 1


def test_plain_rows_are_read_together() -> None:
    assert check(*(compact(row) for row in PLAIN * 3))


ODD = {
    "a number as text": compact(event(PageDuration="12")),
    "a whole number with a point": compact(event(PageDuration=1.0)),
    "a number that is none": compact(event(PageDuration=True)),
    "a negative zero": compact(event(EventCumulativeLayoutShift=0)).replace('Shift":0', 'Shift":-0'),
    "a negative whole zero": compact(event(PageDuration=0)).replace('Duration":0', 'Duration":-0'),
    "a number where text is due": compact(event(PageName=1.5)),
    "true where text is due": compact(event(PageName=True)),
    "a list where text is due": compact(event(PageName=["a"])),
    "an object where text is due": compact(event(PageName={"a": 1})),
    "a number that is too large": compact(event(PageDuration=2**63)),
    "1e400": compact(event(evt_x=1)).replace('"evt_x":1', '"evt_x":1e400'),
    "a column twice": compact(event(PageName="b"))[:-1] + ',"PageName":"c"}',
    "a variable twice": compact(event(evt_x=1))[:-1] + ',"evt_x":2}',
    "a null and a value of one column": compact(event(PageName=None))[:-1] + ',"PageName":"c"}',
    "two nulls of one column": compact(event(PageName=None))[:-1] + ',"PageName":null}',
    "half a surrogate pair": compact(event())[:-1] + ',"evt_x":"\\ud800"}',
    "half a surrogate pair in a column": compact(event())[:-1] + ',"PageName":"\\ud83d"}',
    "no user": compact({k: v for k, v in event().items() if k != "UserId"}),
    "an empty type": compact(event(EventType="")),
    "a time in another zone": compact(event(EventStart="2026-06-01T14:00:00.000+02:00")),
    "a time to the second": compact(event(EventStart="2026-06-01T12:00:00Z")),
    "a finer time": compact(event(EventStart="2026-06-01T12:00:00.000001Z")),
    "a day that is none": compact(event(PageStart="2026-02-30T12:00:00.000Z")),
    "a 61st second": compact(event(PageStart="2026-02-20T12:00:60.000Z")),
    "an older and a modern name": compact(event(PageAgent="old", PageUserAgent="new")),
    "an older name with null": compact(event(PageAgent=None)),
    "an older name with a number": compact(event(PageAgent=5)),
    "deep nesting": compact(event())[:-1] + ',"evt_x":' + "[" * 600 + "]" * 600 + "}",
    "no object": "[1]",
    "a number": "17",
    "null": "null",
    "cut": compact(event())[:-1],
    "two rows on a line": compact(event()) + compact(event()),
    "a name that ends in a backslash": compact(event(**{"evt\\": 1})),
    "NaN": compact(event())[:-1] + ',"evt_x":NaN}',
    "a control character": compact(event())[:-1] + ',"evt_x":"\x01"}',
    "a leading zero": compact(event())[:-1] + ',"evt_x":01}',
    "nothing": "",
}


@pytest.mark.parametrize("name", ODD)
def test_a_row_that_is_not_plain_is_left_to_the_other_reader(name: str) -> None:
    assert read(ODD[name]) is None
    assert read(compact(event()), ODD[name], compact(event())) is None


@pytest.mark.parametrize("name", ["a number where text is due", "a column twice", "a variable twice", "NaN"])
@pytest.mark.parametrize("other", [PLAIN[-1], PLAIN[1], PLAIN[3], PLAIN[6]])
def test_what_is_odd_is_not_made_up_for_by_other_rows(name: str, other: dict[str, Any]) -> None:
    # Texts full of what looks like JSON stand beside it.
    for n in range(4):
        assert read(*[compact(other)] * n, ODD[name]) is None


@pytest.mark.slow
@pytest.mark.soak
@settings(max_examples=count(600, full=10_000), suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.dictionaries(names, values, max_size=6).map(lambda more: event() | more), max_size=4))
@example(rows=[event(PageName=":x"), event(PageDuration=None)])
def test_any_rows_read_at_once_are_as_they_are_one_by_one(examples: Counter[str], rows: list[dict[str, Any]]) -> None:
    check(*map(compact, rows))
    examples["arbitrary rows, read at once as one by one"] += 1


fragments = st.sampled_from(
    ['"', '":', '":"', '":null', '\\"', "\\\\", ":", ",", "null", "[", "]", "{", "}", " ", "a", "\\u0041", "1", "1.50"]
)


@pytest.mark.slow
@pytest.mark.soak
@settings(max_examples=count(1500, full=30_000))
@given(texts=st.lists(st.lists(fragments, max_size=8).map("".join), min_size=1, max_size=3), is_name=st.booleans())
def test_no_text_deceives_the_reader(examples: Counter[str], texts: list[str], is_name: bool) -> None:
    # Spliced in as it is: it may close the text it stands in, double a name, or be no JSON at all.
    plain = compact(event(PageName="a"))
    rows = [plain[:-1] + (f',"{text}":1}}' if is_name else f',"evt_x":"{text}"}}') for text in texts]
    got = read(plain, *rows)
    if got is not None:
        assert got.equals(one_by_one(plain, *rows))
    examples["texts that look like JSON, read at once as one by one or not at all"] += 1


damage = st.one_of(
    st.binary(min_size=1, max_size=2).filter(lambda damage: b"\n" not in damage),
    st.sampled_from(rb'null \u0000 \ud800 \u00 \x41 1e5 -0 01 1. .5 +1 NaN "" , "a":1, {} [] } /**/'.split()),
    st.sampled_from([b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"]),
)


@pytest.mark.slow
@pytest.mark.soak
@settings(max_examples=count(1500, full=30_000))
@given(at=st.integers(min_value=0), damage=damage, n_replaced=st.integers(0, 6))
@example(at=0, damage=b"\x1f\x8b", n_replaced=0)
@example(at=0, damage=b"\x28\xb5\x2f\xfd", n_replaced=0)
def test_no_damage_to_a_row_goes_unseen(examples: Counter[str], at: int, damage: bytes, n_replaced: int) -> None:
    variables = {"evt_a_str": "é\t", "evt_o": {"b": [1.5, None, True]}, "page_n_int": 7}
    plain = compact(event(PageName='a "b" é', EventCumulativeLayoutShift=0.1, ReqStatus=-1, **variables)).encode()
    at %= len(plain)
    text = plain[:at] + damage + plain[at + n_replaced :]
    got = read_plain_rows(text)
    if got is not None:
        rows, rejects = read_one_by_one([text], 0, keep_text=True)
        assert not rejects
        assert got.equals(rows.drop("_n_misfit"))
    examples["damaged rows, read at once as one by one or not at all"] += 1


@pytest.mark.parametrize("comma", [",", ",\n", " , ", "\n,\r\n\t", ",\n\n"])
def test_elements_of_an_array_are_read_with_their_commas(comma: str) -> None:
    rows = [compact(row) for row in PLAIN]
    got = read_plain_rows(f"\n{comma.join(rows)} \n".encode(), is_array=True)
    assert got is not None
    assert got.equals(one_by_one(*rows))


@pytest.mark.parametrize("text", ["", "{r},", ",{r}", "{r},,{r}", "{r}{r}", "{r}\n{r}", "{r},{r", "{r},7", "[{r}]"])
def test_what_is_no_row_after_row_is_left_to_the_other_reader(text: str) -> None:
    rows = text.replace("{r}", compact(event())).replace("{r", compact(event())[:-1])
    assert read_plain_rows(rows.encode(), is_array=True) is None


def test_variables_are_kept_in_the_order_of_their_names() -> None:
    got = read(compact(event(evt_c=1, evt_a=2)))
    assert got is not None
    assert got["CustomVars"].item() == '{"evt_a":2,"evt_c":1}'


def test_rows_with_names_of_their_own_are_read_at_once_however_many_there_are() -> None:
    assert check(*(compact(event(**{f"evt_{n}_{k}": k for k in range(500)})) for n in range(20)))


@pytest.mark.parametrize("blank", [" ", "  ", "\t", "\r", " \t "])
def test_blanks_may_stand_between_any_two_tokens(blank: str) -> None:
    tokens = re.findall(r'"[^"]*"|[\[\]{}:,]|[^"\[\]{}:,]+', compact(event(evt_a=[1, {"b": None}], evt_c={}, evt_l=[])))
    assert check(blank.join(["", *tokens, ""]))


@pytest.mark.parametrize("n", range(140))
def test_ids_of_every_length_of_identity_are_the_same(n: int) -> None:
    # md5 takes blocks of 64 bytes, and the last one says how many there were.
    assert check(compact(event(EventTargetText="x" * n)))


def test_every_escape_is_read() -> None:
    escaped = r"\" \\ \/ \b \f \n \r \t \u0041 \u00e9 \u20ac \ud83d\ude00 \uD83D\uDE00 \uffff"
    row = compact(event())[:-1] + f',"EventTargetText":"{escaped}","evt_x_str":"{escaped}","{{":1}}'
    assert check(row)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
@example([5e-324, 1.7976931348623157e308, 0.1, 1e22, 1e23, 9007199254740993.0])
def test_floats_are_the_nearest_ones(numbers: list[float]) -> None:
    for number in numbers:
        row = compact(event(EventCumulativeLayoutShift=number))
        got = read(row)
        if got is not None:  # three digits of an exponent are left to the other reader
            assert got["EventCumulativeLayoutShift"].item() == number


@pytest.mark.parametrize("number", [0, 1, -1, 2**63 - 1, -(2**63), 10**18, -(10**18)])
def test_whole_numbers_are_exact_to_the_last_one_there_is(number: int) -> None:
    assert check(compact(event(PageDuration=number)))


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**19, 2**64, 10**30])
def test_whole_numbers_beyond_the_last_one_are_left_to_the_other_reader(number: int) -> None:
    assert read(compact(event(PageDuration=number))) is None


@pytest.mark.parametrize("year", [1000, 1600, 1900, 1969, 1970, 2000, 2024, 2026, 2100, 2998])
def test_every_day_of_a_year_is_where_the_calendar_has_it(year: int) -> None:
    days = [
        datetime(year, 1, 1, tzinfo=timezone.utc) + timedelta(days=n, hours=n % 24, milliseconds=n) for n in range(366)
    ]
    assert check(*(compact(event(PageStart=f"{day:%Y-%m-%dT%H:%M:%S}.{n:03}Z")) for n, day in enumerate(days)))


@pytest.mark.parametrize("n", [2, 24, 25, 100])
def test_a_variable_that_stands_twice_is_seen_among_many(n: int) -> None:
    row = compact(event(**{f"evt_{k}": k for k in range(n)}))
    assert check(row)
    assert read(f'{row[:-1]},"evt_{n // 2}":1}}') is None


@pytest.mark.parametrize("selector", ["a%20b", "%C3%A9", "é%c3%a9", "%", "%4", "%zz", "%41%", "%e2%82%ac.x", "a%00b"])
def test_percent_escapes_of_a_selector_are_read_for_the_id(selector: str) -> None:
    assert check(compact(event(EventTargetSelector=selector)))


@pytest.mark.parametrize("selector", ["%ff", "%C3", "%C3é", "%ed%a0%80", "%f5%80%80%80", "%e2%82"])
def test_percent_escapes_that_are_no_text_are_left_to_the_other_reader(selector: str) -> None:
    assert read(compact(event(EventTargetSelector=selector))) is None


def test_what_was_read_is_given_away_once() -> None:
    assert plain_rows._reader is not None
    columns = plain_rows._reader.read(compact(event()).encode(), False)
    assert columns is not None
    schema, array = columns.__arrow_c_array__()
    del schema, array  # nobody took them: their memory is given back
    with pytest.raises(RuntimeError, match="given away before"):
        columns.__arrow_c_array__()


def test_a_read_gives_its_memory_back() -> None:
    lines = "\n".join(compact(event(PageId=n, evt_x_str="x" * 900)) for n in range(2000)).encode()
    odd = lines + b"\n{}"
    for text in (lines, odd):
        read_plain_rows(text)
    before = resident_bytes()
    for _ in range(50):
        read_plain_rows(lines)
        read_plain_rows(odd)
    assert resident_bytes() - before < 20 * len(lines), "a hundred reads kept more than twenty bundles"


@pytest.mark.parametrize(
    ("text", "is_array"),
    [
        (compact(event(evt_o=[{"a": 1}] * 1_000_000)), True),
        (compact(event()) + "\n" * 8_000_000, False),
    ],
    ids=["objects in a list", "line feeds"],
)
def test_what_looks_like_rows_and_is_none_takes_no_memory(text: str, is_array: bool) -> None:
    lines = text.encode()
    kept = [read_plain_rows(lines, is_array=is_array)]
    before = resident_bytes()
    kept += [read_plain_rows(lines, is_array=is_array) for _ in range(10)]
    # Eight bytes for each of them in one column, of seventy, would be as much.
    assert resident_bytes() - before < 40 * len(lines)
    del kept


def test_a_reader_that_was_refused_its_columns_reads_nothing() -> None:
    columns = (*((f"c{n}", "int64", False) for n in range(60)), ("c60", "date", False))
    reader = Reader.__new__(Reader)
    for _ in range(2):
        with pytest.raises((ValueError, RuntimeError)):
            reader.__init__(columns=columns, older_names={}, identity=(), selector="c0", start="c1", version="1")  # type: ignore[misc]
    assert reader.read(b'{"c59":1,"c60":2}', False) is not None
    for identity in (("c2",), ("c9",)):
        with pytest.raises(ValueError, match=r"an id is made of|has no column"):
            Reader(
                columns=(("c0", "string", False), ("c1", "timestamp", False), ("c2", "float64", False)),
                older_names={},
                identity=identity,
                selector="c0",
                start="c1",
                version="1",
            )


def test_without_a_compiler_every_row_is_read_by_the_other_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fullstory_dagster.parse._plain_rows", None)
    logged = logging.getLogger(plain_rows.__name__)
    said: list[str] = []
    monkeypatch.setattr(logged, "warning", said.append)
    try:
        importlib.reload(plain_rows)
        assert plain_rows.read_plain_rows(compact(event()).encode()) is None
    finally:
        monkeypatch.undo()
        importlib.reload(plain_rows)
    assert "no C compiler" in said[0]
    assert read(compact(event())) is not None


def shuffled(rows: list[str], seed: int) -> list[str]:
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    return rows


@pytest.mark.parametrize("form", ["lines", "array", "array on lines", "array with blanks"])
def test_odd_rows_among_plain_ones_cost_no_row_and_no_order(form: str) -> None:
    odd = [text for name, text in ODD.items() if name not in ("nothing", "two rows on a line", "cut")]
    texts = shuffled([*odd, *(compact(event(PageId=n)) for n in range(3000))], 1)
    content = {
        "lines": "\n".join(texts),
        "array": f"[{','.join(texts)}]",
        "array on lines": "[" + ",\n".join(texts) + "]\n",
        "array with blanks": "[ " + " ,\n ".join(texts) + " ]",
    }[form].encode()
    parser = BundleParser(DAY)
    batches = list(parser.parse(content[at : at + 50_000] for at in range(0, len(content), 50_000)))
    rows = pl.concat([batch.rows for batch in batches])
    rejects = pl.concat([batch.rejects for batch in batches])
    expected, expected_rejects = read_one_by_one([text.encode() for text in texts], 0, keep_text=True)
    assert rows.equals(expected.drop("_n_misfit"))
    assert rejects.rows() == expected_rejects
    assert parser.counts.values_misfit == expected["_n_misfit"].sum()
    assert parser.counts.rows_in == len(texts)


def test_every_field_is_read_at_once() -> None:
    values = {
        "int64": 2**60 + 1,
        "float64": 0.30000000000000004,
        "string": "text",
        "timestamp": "2026-06-01T12:00:00.123Z",
    }
    assert check(compact({field.name: values[field.type] for field in FIELDS}))


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.skipif(not IS_SOAK, reason="minutes under the compiler's checks; make soak runs it")
def test_no_memory_is_touched_that_is_not_the_reader_s(tmp_path: Path, examples: Counter[str]) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc brings the library that checks each access")
    package = Path(plain_rows.__file__).parent
    checked = tmp_path / f"_plain_rows{sysconfig.get_config_var('EXT_SUFFIX')}"
    flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-shared", "-fPIC"]
    source = [f"-I{sysconfig.get_paths()['include']}", str(package / "_plain_rows.c"), "-o", str(checked)]
    subprocess.run([compiler, *flags, *source], check=True)
    libraries = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    # Loaded in the place of the one that is installed, before anything asks for it.
    (tmp_path / "checked_reader.py").write_text(
        "import importlib.util, sys\n"
        "name = 'fullstory_dagster.parse._plain_rows'\n"
        f"spec = importlib.util.spec_from_file_location(name, {str(checked)!r})\n"
        "sys.modules[name] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(sys.modules[name])\n"
    )
    others = "not memory and not compiler"
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "checked_reader", "-k", others, __file__]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FULLSTORY_TESTS_")}
    environment |= {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(tmp_path),
    }
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
    examples["runs of these tests with every access to memory checked"] += 1
