"""Bundles without the rows of people who were erased: what is fetched, and what is kept already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

from fullstory_dagster.compression import pack
from fullstory_dagster.forgotten import Matcher
from fullstory_dagster.parse.erasure import count_erased, is_erased, without_rows
from fullstory_dagster.store.bundles import BundleFile, BundleStore, StoredBundle
from fullstory_dagster.windows import Window

_LONGEST_BUNDLE = timedelta(days=31)
"""Older bundles may begin before their window; none seen was longer than a day."""


def strip_bundle(bundles: BundleStore, bundle: StoredBundle, matcher: Matcher) -> StoredBundle:
    """The bundle without rows of erased people, or itself if it has none. Its new files still have to be published.

    Raises:
        BundleFormatError: it cannot be read as rows.
        BundleDamagedError: it is not what was received.
    """
    while True:
        n_learnt = len(matcher.learnt)
        files = []
        for file in bundle.files:
            stripped = strip_file(bundles, bundle.window, file, lambda file=file: bundles.read(file), matcher)  # type: ignore[misc]
            files.append(stripped or file)
        if len(matcher.learnt) == n_learnt:
            return bundle if tuple(files) == bundle.files else replace(bundle, files=tuple(files))


def strip_file(
    bundles: BundleStore, window: Window, file: BundleFile, read: Callable[[], Iterator[bytes]], matcher: Matcher
) -> BundleFile | None:
    """Keep a file without the rows of erased people, beside what is there.

    Args:
        bundles: where to.
        window: whose file it is.
        file: what is known of it.
        read: its unpacked bytes.
        matcher: who was erased; it learns devices.

    Returns:
        BundleFile: the new file; None if none of its rows is to go, which leaves it byte for byte as it is.
    """
    until = matcher.forgotten.until
    if until is None or window.start - _LONGEST_BUNDLE >= until:
        return None
    while True:
        n_learnt = len(matcher.learnt)
        n_rows = count_erased(read(), matcher, window.start)
        if len(matcher.learnt) == n_learnt:
            break
    if not n_rows:
        return None
    digest, size = hashlib.sha256(), 0
    with bundles.receive() as scratch:
        with scratch.open("wb") as out:
            for packed in pack(without_rows(read(), lambda text: is_erased(matcher, text, window.start))):
                out.write(packed)
                digest.update(packed)
                size += len(packed)
        kept = bundles.publish_file(window, scratch, export_id=file.export_id, size=size, sha256=digest.hexdigest())
    return replace(kept, rows_forgotten=file.rows_forgotten + n_rows)
