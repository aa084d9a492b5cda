"""Errors as OpenAI's API writes them."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ..errors import AccessError, AdapterHubError, NotRegistered, Overloaded, RateLimited
from .rights import NOBODY, Caller

_log = logging.getLogger(__name__)
OVERLOADED_SECONDS = 1  # after which a client may try again
NO_OBJECT = {"missing", "dict_type", "model_type", "model_attributes_type"}
NO_ROUTE = {404: "not_found", 405: "method_not_allowed"}
BROKEN = "the server failed on this request; its log says why."


def answer(status: int, message: str, *, param: str | None = None, code: str | None = None) -> JSONResponse:
    """An error as a response."""
    return JSONResponse(body(status, message, param=param, code=code), status)


def body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> dict[str, object]:
    """An error as OpenAI's API writes it."""
    kind = "server_error" if status >= 500 else "authentication_error" if status in (401, 403) else None
    kind = kind or ("rate_limit_error" if status == 429 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def code_of(error: AdapterHubError) -> str:
    """The word by which clients tell errors apart."""
    if isinstance(error, NotRegistered):
        return "model_not_found"
    if isinstance(error, RateLimited):
        return "rate_limit_exceeded"
    if isinstance(error, AccessError):
        return "invalid_api_key" if error.status == 401 else "insufficient_permissions"
    name = type(error).__name__
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


def add_handlers(app: FastAPI) -> None:
    """Answer every error of an app's routes in one shape."""
    app.add_exception_handler(AdapterHubError, _of_hub)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _of_bug)


async def _of_hub(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AdapterHubError)
    caller: Caller = getattr(request.state, "caller", NOBODY)
    error = caller.told(error)
    response = answer(error.status, str(error), code=code_of(error))
    if isinstance(error, RateLimited):
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
        response.headers.update(request.app.state.service.limits.headers(caller))
    if isinstance(error, Overloaded):
        response.headers["retry-after"] = str(OVERLOADED_SECONDS)
    if error.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


async def _of_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    if first["type"] == "json_invalid":
        why, at = first["ctx"]["error"], first["loc"][-1]
        return answer(400, f"the body is no JSON: {why} at character {at}.", code="invalid_json")
    if first["loc"] == ("body",) and first["type"] in NO_OBJECT:
        message = "the body is no JSON object. Send one, with the header content-type: application/json."
        return answer(400, message, code="invalid_json")
    if first["type"] == "extra_forbidden":
        return answer(400, f"{where} is not supported here.", param=where, code="unsupported_field")
    return answer(400, f"{where}: {first['msg']}.", param=where, code="invalid_value")


async def _of_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message, code = str(error.detail), None
    # A plugin's own route may have raised it, with more to say than the router.
    if error.status_code in NO_ROUTE and message == HTTPStatus(error.status_code).phrase:
        code, asked = NO_ROUTE[error.status_code], f"{request.method} {request.url.path[:200]}"
        message = f"there is no route {asked}. GET /openapi.json lists those that there are."
    response = answer(error.status_code, message, code=code)
    response.headers.update(error.headers or {})
    return response


async def _of_bug(request: Request, error: Exception) -> JSONResponse:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(500, BROKEN, code="internal_error")
