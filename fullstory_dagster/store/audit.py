"""Questions the asset checks ask of the warehouse, a window at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fullstory_dagster.store.tables import EVENTS, REJECTED, table
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.windows import Window

_REASONS = 5


@dataclass(frozen=True)
class WindowAudit:
    """What the events table holds of one window.

    Attributes:
        window: which.
        n_rows: rows that carry the window's mark.
        n_outside: rows among them whose EventStart is not in the window.
        n_doubled: rows among them whose id another row of the same time carries as well.
        rejects: the most frequent reasons for which rows of the window were rejected, and how many each; no raw text.
    """

    window: Window
    n_rows: int
    n_outside: int
    n_doubled: int
    rejects: dict[str, int]


def audit_windows(warehouse: Warehouse, windows: Sequence[Window]) -> list[WindowAudit]:
    """Look at the rows of some windows.

    The cost is that of the windows: rows with the same id have the same EventStart, so doubles are looked for among the
    rows of that time only, whatever window they are marked with.

    Raises:
        WarehouseLockedError: somebody else held the warehouse for too long.
    """
    audits = []
    with warehouse.reading() as connection:
        if connection is None:
            return []
        events, rejected = table(warehouse.schema, EVENTS), table(warehouse.schema, REJECTED)
        for window in windows:
            start, end = (bound.replace(tzinfo=None) for bound in (window.start, window.end))
            row = connection.execute(
                f"SELECT count(*), count(*) FILTER (WHERE EventStart < $start OR EventStart >= $end) FROM {events} "
                "WHERE _window_start = $start",
                {"start": start, "end": end},
            ).fetchone()
            doubled = connection.execute(
                f"SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM {events} "
                "WHERE EventStart >= $start AND EventStart < $end GROUP BY _event_id HAVING count(*) > 1)",
                {"start": start, "end": end},
            ).fetchone()
            rejects = connection.execute(
                # Where the text of a row went wrong is another place in each; what went wrong is the reason.
                f"SELECT regexp_replace(reason, ' ?\\(byte \\d+\\)', '') AS said, count(*) AS n FROM {rejected} "
                f"WHERE window_start = $start GROUP BY said ORDER BY n DESC, said LIMIT {_REASONS}",
                {"start": start},
            ).fetchall()
            assert row is not None  # noqa: S101 (aggregates give a row)
            assert doubled is not None  # noqa: S101
            audits.append(WindowAudit(window, int(row[0]), int(row[1]), int(doubled[0]), dict(rejects)))
    return audits
