"""Answers that no well-behaved server gives, in the place where requests keeps its network."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import requests
import urllib3
from requests.adapters import BaseAdapter


class ScriptedAdapter(BaseAdapter):
    """Gives its answers one after the other.

    Attributes:
        sent: the requests, in order.
    """

    def __init__(self, *answers: tuple[int, Mapping[str, str], bytes] | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.sent: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *_args: Any, **_options: Any) -> requests.Response:
        self.sent.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, headers, body = answer
        response = requests.Response()
        response.status_code = status
        response.headers.update(headers)
        response.raw = urllib3.HTTPResponse(
            io.BytesIO(body), headers=headers, status=status, preload_content=False, request_method=request.method
        )
        return response

    def close(self) -> None:
        """Nothing is open."""

    def session(self) -> requests.Session:
        session = requests.Session()
        session.mount("https://", self)
        return session
