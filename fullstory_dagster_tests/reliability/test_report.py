"""The page is made of what was recorded, and of nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .report import PAGE, REPORT_VARIABLE, record, recorded, render


def test_nothing_is_written_unless_the_run_was_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REPORT_VARIABLE, raising=False)
    record("kills", {"kills": 3})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(REPORT_VARIABLE, str(tmp_path / "report"))
    record("kills", {"kills": 3})
    assert recorded("kills", tmp_path / "report") == {"kills": 3}
    assert recorded("matrix", tmp_path / "report") is None


def test_every_section_becomes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REPORT_VARIABLE, str(tmp_path))
    cell = {"outcome": "healed: another request", "attempts": 2, "seconds": 0.126}
    row = {"failure": "500", "seen": "once", "segment export": cell, "bundle": None}
    record("matrix", {"apis": ["segment export", "bundle"], "rows": [row]})
    record("kills", {"kills at a random moment": 1200, "rows that differ": 0})
    record("examples", {"warehouse": {"examples": 100, "rows": 2500}, "parser": {"examples": 7}})
    page = tmp_path / "page.md"
    render(tmp_path, page)
    text = page.read_text()
    assert "| 500 | once | healed: another request | 2 | 0.13 | - | - | - |" in text
    assert "| kills at a random moment | 1,200 |" in text
    assert "| warehouse | 100 | 2,500 |\n| parser | 7 | - |" in text


@pytest.mark.skipif(REPORT_VARIABLE in os.environ, reason="the sections are being renewed")
def test_the_committed_page_is_the_one_that_its_sections_make(tmp_path: Path) -> None:
    render(page=tmp_path / "page.md")
    assert PAGE.read_text() == (tmp_path / "page.md").read_text()
