"""The web application: FullStory's two export APIs, the object store behind signed locations, and our control routes.

FullStory's routes (references of segment export, operations, search export results and data export, read 2026-11):

    POST /segments/v1/exports              start an export
    GET  /operations/v1/{id}               how far it is
    GET  /operations/v1?type=SEARCH_EXPORT all of them
    GET  /search/v1/exports/{id}/results   where its file is
    GET  /api/v1/export/list?start=        legacy bundles, 20 a page
    GET  /api/v1/export/get?id=            one legacy bundle

The object store's: ``GET /export-files/{name}``, under another host name (localhost, the API is 127.0.0.1).

Ours, without a key, for tests and demonstrations:

    POST, DELETE /simulator/faults         a list of faults that replaces the present one; none
    GET, DELETE  /simulator/requests       every request so far; forget them
    POST, DELETE /simulator/bundles        an explicit list of legacy bundles; back to the account's own
"""

from __future__ import annotations

import time
from concurrent.futures import wait
from datetime import datetime, timezone
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fullstory_dagster.simulator.bundles import Bundle, Bundles, RateLimit
from fullstory_dagster.simulator.config import SimulatorConfig, format_instant
from fullstory_dagster.simulator.events import EventSource
from fullstory_dagster.simulator.export_files import ExportFiles
from fullstory_dagster.simulator.faults import Fault, FaultMiddleware
from fullstory_dagster.simulator.files_response import file_response
from fullstory_dagster.simulator.locations import EXPIRES_PARAMETER, SIGNATURE_PARAMETER, SignedLocations
from fullstory_dagster.simulator.recording import RecordingMiddleware, new_log
from fullstory_dagster.simulator.segment_export import BadRequestError, ExportRequest, SegmentExports, UnknownIdError

_OPERATIONS_A_PAGE = 100


class _RefusedError(Exception):
    """A request is answered with an error in the shape of the API it was sent to."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


def _refuse(request: Request, error: Exception) -> Response:
    match error:
        case _RefusedError():
            status, code, headers = error.status, error.code, error.headers
        case UnknownIdError():
            status, code, headers = 404, "not_found", None
        case _:
            status, code, headers = 400, "invalid_argument", None
    # Older endpoints name the problem and nothing else.
    is_legacy = request.url.path.startswith("/api/v1/")
    body = {"error": str(error)} if is_legacy else {"code": code, "message": str(error)}
    return JSONResponse(body, status_code=status, headers=headers)


def _no_route(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return JSONResponse({"code": "not_found", "message": "there is no such method and path"}, status_code=status)


def _store_error(status: int, code: str, message: str) -> Response:
    """An error as object stores write it."""
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(body, status_code=status, media_type="application/xml")


class _Simulator:
    """The handlers and what they share."""

    def __init__(self, config: SimulatorConfig, source: EventSource) -> None:
        self.config = config
        self.files = ExportFiles(source)
        self.exports = SegmentExports(config, source, self.files)
        self.bundles = Bundles(config, source)
        self.limit = RateLimit(config.rate_limit, config.rate_limit_s)
        self.locations = SignedLocations()
        self.faults: list[Fault] = []
        self.requests = new_log()

    def authenticate(self, request: Request, *schemes: str) -> str:
        """The key of a request, as it was issued, behind one of the schemes."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() not in schemes or key.strip() != self.config.api_key:
            raise _RefusedError(401, "unauthorized", "the API key is missing or not valid")
        return key.strip()

    # API 1

    async def start_export(self, request: Request) -> Response:
        self.authenticate(request, "basic", "bearer")
        try:
            body = await request.json()
        except ValueError as error:
            raise BadRequestError(f"the body is not JSON: {error}") from error
        operation = self.exports.start(ExportRequest.of(body))
        if self.config.export_s <= 0:
            # Ready at the first question: tests count questions.
            await run_in_threadpool(wait, [operation.file])
        return JSONResponse({"operationId": operation.id})

    async def operation(self, request: Request) -> Response:
        self.authenticate(request, "basic", "bearer")
        return JSONResponse(self.exports.operation(request.path_params["id"]).document(time.time()))

    async def operations(self, request: Request) -> Response:
        """Pages of operations. The names of the list and of its token are guesses, taken from the users API."""
        self.authenticate(request, "basic", "bearer")
        if request.query_params.get("type", "SEARCH_EXPORT") != "SEARCH_EXPORT":
            raise BadRequestError("type is not SEARCH_EXPORT")
        token = request.query_params.get("page_token") or "0"
        if not token.isdigit():
            raise BadRequestError("page_token is not one that was given out")
        first, operations = int(token), self.exports.operations()
        page = operations[first : first + _OPERATIONS_A_PAGE]
        answer: dict[str, Any] = {"results": [operation.document(time.time()) for operation in page]}
        if first + len(page) < len(operations):
            answer["next_page_token"] = str(first + len(page))
        return JSONResponse(answer)

    async def results(self, request: Request) -> Response:
        self.authenticate(request, "basic", "bearer")
        operation = self.exports.finished(request.path_params["id"])
        expires = time.time() + self.config.location_s
        path = self.locations.sign(operation.file_name, expires)
        moment = format_instant(datetime.fromtimestamp(expires, timezone.utc))
        return JSONResponse({"location": f"http://localhost:{request.url.port}{path}", "expires": moment})

    async def location(self, request: Request) -> Response:
        if "authorization" in request.headers:
            # The key belongs to FullStory's host; here is another company's, and the signature says all it needs.
            return _store_error(400, "InvalidArgument", "Only one way of authorisation is allowed")
        name, query = request.path_params["name"], request.query_params
        verdict = self.locations.check(
            name, query.get(EXPIRES_PARAMETER, ""), query.get(SIGNATURE_PARAMETER, ""), time.time()
        )
        if verdict == "expired":
            return _store_error(403, "AccessDenied", "Request has expired")
        if verdict == "forged":
            return _store_error(403, "SignatureDoesNotMatch", "The signature does not match the request")
        operation = self.exports.finished(name.partition(".")[0])
        content = await run_in_threadpool(self.exports.content, operation)
        return file_response(content, {}, request.headers.get("range"), request.headers.get("if-range"))

    # API 2

    async def list_bundles(self, request: Request) -> Response:
        self.authenticate(request, "basic")
        start = request.query_params.get("start", "0")
        if not start.lstrip("-").isdigit():
            raise BadRequestError(f"start is not a Unix time in seconds: {start!r}")
        return JSONResponse({"exports": [bundle.document() for bundle in self.bundles.page(int(start))]})

    async def get_bundle(self, request: Request) -> Response:
        key = self.authenticate(request, "basic")
        if wait_s := self.limit.wait_s(key, time.monotonic()):
            raise _RefusedError(
                429, "rate_limited", "too many downloads, try again later", {"Retry-After": str(wait_s)}
            )
        bundle = self.bundles.find(request.query_params.get("id", ""))
        if bundle is None:
            raise UnknownIdError(f"there is no bundle {request.query_params.get('id', '')!r}")
        content = await run_in_threadpool(self.files.get, bundle.key)
        disposition = {"Content-Disposition": 'attachment; filename="DataExport.json.gz"'}
        # That ranges work here as well is a guess.
        return file_response(content, disposition, request.headers.get("range"), request.headers.get("if-range"))

    # Ours

    async def control_faults(self, request: Request) -> Response:
        faults = [] if request.method == "DELETE" else [Fault.of(each) for each in await _json_list(request)]
        # In place: the middleware holds this very list.
        self.faults[:] = faults
        return Response(status_code=204)

    async def control_requests(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.requests.clear()
            return Response(status_code=204)
        return JSONResponse(list(self.requests))

    async def control_bundles(self, request: Request) -> Response:
        is_reset = request.method == "DELETE"
        self.bundles.override = None if is_reset else [Bundle.of(each) for each in await _json_list(request)]
        return Response(status_code=204)


async def _json_list(request: Request) -> list[Any]:
    document = await request.json()
    if not isinstance(document, list):
        raise BadRequestError("the body is not a JSON list")
    return document


def create_app(config: SimulatorConfig, source: EventSource) -> Starlette:
    """The simulator as an ASGI application; its connections have to be ``BreakableProtocol`` for some faults."""
    simulator = _Simulator(config, source)
    return Starlette(
        routes=[
            Route("/segments/v1/exports", simulator.start_export, methods=["POST"]),
            Route("/operations/v1", simulator.operations),
            Route("/operations/v1/{id}", simulator.operation),
            Route("/search/v1/exports/{id}/results", simulator.results),
            Route("/export-files/{name}", simulator.location),
            Route("/api/v1/export/list", simulator.list_bundles),
            Route("/api/v1/export/get", simulator.get_bundle),
            Route("/simulator/faults", simulator.control_faults, methods=["POST", "DELETE"]),
            Route("/simulator/requests", simulator.control_requests, methods=["GET", "DELETE"]),
            Route("/simulator/bundles", simulator.control_bundles, methods=["POST", "DELETE"]),
        ],
        middleware=[
            Middleware(RecordingMiddleware, requests=simulator.requests),
            Middleware(FaultMiddleware, faults=simulator.faults),
        ],
        exception_handlers={
            _RefusedError: _refuse,
            ValueError: _refuse,
            UnknownIdError: _refuse,
            HTTPException: _no_route,
        },
    )
