"""Signed, expiring locations, as an object store gives them out."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Literal
from urllib.parse import quote

Verdict = Literal["valid", "expired", "forged"]

EXPIRES_PARAMETER = "X-Simulator-Expires"
SIGNATURE_PARAMETER = "X-Simulator-Signature"


class SignedLocations:
    """Signs names with an expiry and checks them again."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, name: str, expires: float) -> str:
        """Path and query of a location.

        Args:
            name: file name.
            expires: Unix time in seconds after which the location is refused.
        """
        moment = f"{expires:.3f}"
        query = f"{EXPIRES_PARAMETER}={moment}&{SIGNATURE_PARAMETER}={self._signature(name, moment)}"
        return f"/export-files/{quote(name)}?{query}"

    def check(self, name: str, expires: str, signature: str, now: float) -> Verdict:
        """Whether a location works at ``now``, Unix time in seconds."""
        try:
            is_over = float(expires) <= now
        except ValueError:
            return "forged"
        if is_over:
            return "expired"
        is_ours = hmac.compare_digest(signature.encode(), self._signature(name, expires).encode())
        return "valid" if is_ours else "forged"

    def _signature(self, name: str, expires: str) -> str:
        return hmac.new(self._secret, f"{name}\n{expires}".encode(), hashlib.sha256).hexdigest()
