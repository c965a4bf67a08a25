"""The report's file: one step from old to new, private, and gone when it has to be."""

from __future__ import annotations

import threading
from pathlib import Path

from fullstory_dagster.store.report_file import ReportFile


def report_file(tmp_path: Path) -> ReportFile:
    return ReportFile(tmp_path / "report" / "experience_report.html")


def test_it_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    file = report_file(tmp_path)
    with file.renewing():
        file.publish("one")
        file.publish("two")
    assert file.path.read_bytes() == b"two"
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_deleting_takes_what_a_killed_process_left_as_well(tmp_path: Path) -> None:
    file = report_file(tmp_path)
    with file.renewing():
        file.publish("one")
    (file.path.parent / ".scratch" / "of_a_killed_process").write_text("half")
    file.delete()
    left = [path.name for path in file.path.parent.rglob("*") if path.is_file()]
    assert left == ["experience_report.html.lock"]


def test_deleting_where_there_never_was_a_report_makes_nothing(tmp_path: Path) -> None:
    report_file(tmp_path).delete()
    assert list(tmp_path.iterdir()) == []


def test_who_deletes_waits_for_a_report_that_is_being_drawn(tmp_path: Path) -> None:
    file = report_file(tmp_path)
    with file.renewing():
        deleting = threading.Thread(target=ReportFile(file.path).delete)
        deleting.start()
        deleting.join(timeout=0.3)
        assert deleting.is_alive()
        file.publish("read before the person was erased")
    deleting.join(timeout=10)
    assert not file.path.exists()
