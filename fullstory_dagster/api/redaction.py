"""Keeping the key, and what a signed URL carries, out of everything a person or a log may read."""

from __future__ import annotations

import base64
import logging
import re
from functools import lru_cache
from urllib.parse import urlsplit

MASK = "***"
_URL_SAFE = str.maketrans("+/", "-_")
_QUOTED_CHARS = 200


def redact(text: str, api_key: str) -> str:
    r"""``text`` with the key masked: as it is, percent-encoded in whole or in part, with JSON's ``\\/``, in base64."""
    return _spellings_of(api_key).sub(MASK, text)


@lru_cache(maxsize=8)
def _spellings_of(api_key: str) -> re.Pattern[str]:
    # Which characters are percent-encoded, and in which case, is up to whoever quotes the key.
    plain = "".join(rf"(?:\\?{re.escape(char)}|%(?i:{ord(char):02x}))" for char in api_key)
    # The last characters of base64 depend on what follows: Basic authentication puts a colon there.
    whole = len(api_key) // 3 * 3
    packed = base64.b64encode(api_key[:whole].encode()).decode()
    alike = [rf"{re.escape(spelling)}[\w+/=-]{{0,4}}" for spelling in {packed, packed.translate(_URL_SAFE)} if spelling]
    return re.compile("|".join([plain, *sorted(alike)]))


def quote_body(body: str, api_key: str) -> str:
    """At most 200 characters of an error body, on one line, the key masked before anything is cut off."""
    line = " ".join(redact(body, api_key).split())
    return line if len(line) <= _QUOTED_CHARS else line[: _QUOTED_CHARS - 1] + "…"


def host_of(url: str) -> str:
    """The host of a URL: all that a message may say of a signed location, whose query opens the export to anyone."""
    try:
        return urlsplit(url).hostname or "an unnamed host"
    except ValueError:
        return "an unreadable host"


class _MasksQueries(logging.Filter):
    """urllib3 notes every URL it asks for at level DEBUG, and a signed location's query opens an export to anyone."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, without what stands behind a question mark."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                f"{part.partition('?')[0]}?{MASK}" if isinstance(part, str) and "?" in part else part
                for part in record.args
            )
        return True


_MASKS_QUERIES = _MasksQueries()


def mask_queries_in_logs() -> None:
    """Keep the query of every URL out of urllib3's own log. Once is enough, and more do no harm."""
    logging.getLogger("urllib3.connectionpool").addFilter(_MASKS_QUERIES)
