"""The key, however somebody spells it who quotes it."""

from __future__ import annotations

import base64
import json
import logging
from urllib.parse import quote

import pytest

from fullstory_dagster.api.redaction import mask_queries_in_logs, quote_body, redact

from .conftest import CANARY_KEY

SPELLINGS = {
    "as it is": CANARY_KEY,
    "percent-encoded": quote(CANARY_KEY, safe=""),
    "percent-encoded but for slashes": quote(CANARY_KEY),
    "percent-encoded in lower case": quote(CANARY_KEY, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "every character percent-encoded": "".join(f"%{ord(char):02X}" for char in CANARY_KEY),
    "with slashes as PHP writes them in JSON": CANARY_KEY.replace("/", "\\/"),
    "in base64": base64.b64encode(CANARY_KEY.encode()).decode(),
    "in base64 of URLs": base64.urlsafe_b64encode(CANARY_KEY.encode()).decode(),
    "in base64 as a user name": base64.b64encode(f"{CANARY_KEY}:".encode()).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("around", ["{}", "key {} is wrong", '"{}"', "<{}>"])
def test_the_key_is_masked_however_it_is_spelt(spelling: str, around: str) -> None:
    assert redact(around.format(spelling), CANARY_KEY) == around.format("***")


@pytest.mark.parametrize("n_chars", range(1, len(CANARY_KEY)))
def test_a_key_of_any_length_is_masked(n_chars: int) -> None:
    key = CANARY_KEY[:n_chars]
    for text in (key, quote(key, safe=""), *([base64.b64encode(key.encode()).decode()] if n_chars > 2 else [])):
        assert redact(f"<{text}>", key) == "<***>"


def test_other_text_stays_as_it_is() -> None:
    text = json.dumps({"code": "not_found", "message": "there is no segment na1 100% sure"})
    assert quote_body(text, CANARY_KEY) == text


def test_a_key_is_masked_before_its_end_is_cut_off() -> None:
    assert CANARY_KEY[:8] not in quote_body("x" * 190 + CANARY_KEY, CANARY_KEY)


def test_the_log_of_requests_does_not_name_signatures(caplog: pytest.LogCaptureFixture) -> None:
    mask_queries_in_logs()
    mask_queries_in_logs()
    caplog.set_level(logging.DEBUG)
    log = logging.getLogger("urllib3.connectionpool")
    log.debug('%s "%s %s" %s', "https://storage.example.com:443", "GET", "/file.gz?X-Signature=s3cr3t", 200)
    assert caplog.messages == ['https://storage.example.com:443 "GET /file.gz?***" 200']
    assert len([each for each in log.filters if type(each).__name__ == "_MasksQueries"]) == 1
