"""The kinds of warehouse that are compared: a file, and a lake with a PostgreSQL of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fullstory_dagster_tests.postgres import PostgresServer

KINDS = ("file", "lake")


@contextmanager
def lake_catalog() -> Iterator[str]:
    """`FULLSTORY_WAREHOUSE` of a new lake. Needs PostgreSQL's programs."""
    server = PostgresServer()
    try:
        yield f"ducklake:postgres:{server.conninfo(server.new_database())}"
    finally:
        server.close()
