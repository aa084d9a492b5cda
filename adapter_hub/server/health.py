"""The routes by which others see how a server does."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import choose_encoder

from ..errors import AdapterHubError
from . import failures
from .service import admin_of, service_of

router = APIRouter(tags=["operations"])


@router.get("/health", summary="The process is up")
async def health() -> dict[str, str]:
    """Answer as long as the process can."""
    return {"status": "ok"}


@router.get("/ready", summary="Requests can be sent here", response_model=None, responses={503: {}})
def ready(request: Request) -> JSONResponse | dict[str, str]:
    """Answer 503 with the reason while the server drains, or its engine cannot run."""
    if request.app.state.operations.drain.is_draining:
        return failures.answer(503, "the server is shutting down.", code="shutting_down")
    try:
        service_of(request).hub.start()
    except AdapterHubError as error:
        return failures.answer(503, str(error), code=failures.code_of(error))
    return {"status": "ready"}


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    """Write the metrics in the format that the reader asks for."""
    if not service_of(request).settings.metrics_open:
        (await admin_of(request)).require_all("metrics name every adapter")
    encode, kind = choose_encoder(request.headers.get("accept", ""))
    text = await run_in_threadpool(encode, request.app.state.operations.metrics.registry)
    return Response(text, media_type=kind)
