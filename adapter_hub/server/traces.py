"""Traces: a span for each request, in OpenTelemetry's words for generative models. No text of anybody's is in them.

Its SDK is imported by ``open_tracing`` alone, and only where traces are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .. import __version__
from ..config import ServerSettings
from ..errors import SettingError
from ..store import BASE_NAME
from .exchange import Exchange

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

Value = str | int | float | bool | Sequence[str]

SYSTEM = "adapter_hub"
OPERATIONS = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion"}
_SWITCHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing:
    """Makes spans of exchanges.

    Args:
        provider: where they go.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind, Status, StatusCode

        self._provider = provider
        self._tracer = provider.get_tracer("adapter_hub.server", __version__)
        self._extract = propagate.extract
        self._kind = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()

    def span(self, exchange: Exchange) -> str:
        """Make the span of an exchange that is over, below the one its ``traceparent`` names; gives the trace's id."""
        nanoseconds = round(exchange.began * 1e9)
        span: Span = self._tracer.start_span(
            _name(exchange),
            context=self._extract(exchange.headers),
            kind=self._kind,
            attributes={**_of_http(exchange), **_of_generations(exchange)},
            start_time=nanoseconds,
        )
        if (exchange.status or 500) >= 500 or exchange.error is not None:
            span.set_status(self._failed)
        span.end(nanoseconds + round(exchange.seconds * 1e9))
        return f"{span.get_span_context().trace_id:032x}"


def open_tracing(settings: ServerSettings, environment: Mapping[str, str] | None = None) -> Tracing | None:
    """Tracing over OTLP where the settings or the standard environment variables name a collector; else None.

    Raises:
        SettingError: the packages for it are not installed.
    """
    environment = os.environ if environment is None else environment
    is_asked = bool(settings.otlp_endpoint) or any(environment.get(name) for name in _SWITCHES)
    is_off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not is_asked or is_off or environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingError(
            f"traces need {error.name}.", hint="Install it: pip install 'adapter-hub[serve]'."
        ) from error
    own = Resource.create({"service.name": "adapter-hub", "service.version": __version__})
    provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()))
    # An endpoint of the environment is completed by the exporter, one that it is given is taken as it is.
    endpoint = f"{settings.otlp_endpoint.rstrip('/')}/v1/traces" if settings.otlp_endpoint else None
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return Tracing(provider)


def _name(exchange: Exchange) -> str:
    operation = OPERATIONS.get(exchange.route or "")
    if operation is not None:
        return f"{operation} {exchange.model}" if exchange.model else operation
    return f"{exchange.method} {exchange.route}" if exchange.route else exchange.method


def _of_http(exchange: Exchange) -> dict[str, Value]:
    found: dict[str, Value | None] = {
        "http.request.method": exchange.method,
        "http.route": exchange.route,
        "http.response.status_code": exchange.status,
        "error.type": exchange.error or (str(exchange.status) if (exchange.status or 0) >= 400 else None),
        "adapter_hub.request.id": exchange.id,
        "adapter_hub.key": exchange.caller,
        "gen_ai.operation.name": OPERATIONS.get(exchange.route or ""),
        "gen_ai.provider.name": SYSTEM if exchange.route in OPERATIONS else None,
        "gen_ai.request.model": exchange.model,
    }
    return {name: value for name, value in found.items() if value is not None}


def _of_generations(exchange: Exchange) -> dict[str, Value]:
    if not exchange.generations:
        return {}
    first = exchange.generations[0]
    done = [generation.result() for generation in exchange.generations if generation.error is None]
    found: dict[str, Value | None] = {
        "gen_ai.request.max_tokens": first.sampling.max_new_tokens,
        "gen_ai.request.temperature": float(first.sampling.temperature),
        "gen_ai.request.top_p": float(first.sampling.top_p),
        "gen_ai.request.seed": first.sampling.seed,
        "gen_ai.request.choice.count": len(exchange.generations),
        "gen_ai.response.model": first.row.key or BASE_NAME,
        "adapter_hub.adapter": first.row.key or BASE_NAME,
        "gen_ai.usage.input_tokens": exchange.prompt_tokens,
        "gen_ai.usage.output_tokens": sum(completion.completion_tokens for completion in done),
        "gen_ai.response.finish_reasons": [completion.finish_reason for completion in done],
    }
    times = [completion.timing for completion in done if completion.timing is not None]
    if times:
        found["gen_ai.response.time_to_first_chunk"] = min(timing.first_token for timing in times)
        found["adapter_hub.time_in_queue"] = max(timing.queued for timing in times)
    return {name: value for name, value in found.items() if value is not None}
