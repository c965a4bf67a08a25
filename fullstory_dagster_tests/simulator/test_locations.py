"""Signed locations: valid until they expire, and only as they were given out."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from fullstory_dagster.simulator.locations import EXPIRES_PARAMETER, SIGNATURE_PARAMETER, SignedLocations


def test_a_location_is_valid_until_it_expires_and_for_its_name_only() -> None:
    locations = SignedLocations()
    location = urlsplit(locations.sign("a.json.gz", 1000.0))
    query = parse_qs(location.query)
    expires, signature = query[EXPIRES_PARAMETER][0], query[SIGNATURE_PARAMETER][0]
    assert location.path == "/export-files/a.json.gz"
    assert locations.check("a.json.gz", expires, signature, 999.9) == "valid"
    assert locations.check("a.json.gz", expires, signature, 1000.0) == "expired"
    assert locations.check("b.json.gz", expires, signature, 999.9) == "forged"
    assert locations.check("a.json.gz", "2000.000", signature, 999.9) == "forged"
    assert locations.check("a.json.gz", "never", signature, 999.9) == "forged"
    assert SignedLocations().check("a.json.gz", expires, signature, 999.9) == "forged"
