"""A span a request in OpenTelemetry's words, below the caller's, without anybody's text; nothing where it is off."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from adapter_hub.config import ServerSettings
from adapter_hub.server.traces import Tracing, open_tracing

from .told import client_of, told_app

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    yield tracing, exporter
    tracing.close()


def test_a_request_is_a_span_below_its_callers(tiny_hub, spans):
    tracing, exporter = spans

    async def run():
        async with client_of(told_app(tiny_hub, tracing)) as client:
            await client.get("/health")
            headers = {"traceparent": PARENT, "x-request-id": "r-1"}
            asked = {"model": "a", "new": 3, "n": 2}
            await client.post("/told/say", params=asked, content=b"private words", headers=headers)
            await client.get("/told/fail")
            await client.post("/told/say", params={"model": "none"}, content=b"x")

    asyncio.run(run())
    said, failed, refused = exporter.get_finished_spans()
    assert f"{said.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{said.parent.span_id:016x}" == PARENT.split("-")[2]
    assert said.kind is SpanKind.SERVER
    attributes = dict(said.attributes)
    first = attributes.pop("gen_ai.response.time_to_first_chunk")
    assert 0 < attributes.pop("adapter_hub.time_in_queue") <= first <= (said.end_time - said.start_time) / 1e9
    assert attributes == {
        "http.request.method": "POST",
        "http.route": "/told/say",
        "http.response.status_code": 200,
        "adapter_hub.request.id": "r-1",
        "adapter_hub.key": "local",
        "adapter_hub.adapter": "a@1",
        "gen_ai.request.model": "a",
        "gen_ai.response.model": "a@1",
        "gen_ai.request.max_tokens": 3,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.choice.count": 2,
        "gen_ai.usage.input_tokens": len(tiny_hub.tokenizer("private words")["input_ids"]),
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.response.finish_reasons": ("length", "length"),
    }
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "ZeroDivisionError"
    assert failed.parent is None
    assert refused.status.status_code is StatusCode.UNSET  # a client's mistake is none of the server's
    assert refused.attributes["error.type"] == "404"


@pytest.mark.parametrize(
    ("setting", "environment", "is_on"),
    [
        ("", {}, False),
        ("http://127.0.0.1:9", {}, True),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True),
        ("http://127.0.0.1:9", {"OTEL_SDK_DISABLED": "true"}, False),
        ("http://127.0.0.1:9", {"OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_setting_or_the_standard_variables_turn_it_on(setting, environment, is_on):
    tracing = open_tracing(ServerSettings(otlp_endpoint=setting), environment)
    assert (tracing is not None) is is_on
    if tracing is not None:
        tracing.close()


def test_a_span_reaches_a_collector(tiny_hub):
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    bodies: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()

        async def run():
            app = told_app(tiny_hub, otlp_endpoint=f"http://127.0.0.1:{collector.server_port}/")
            async with client_of(app) as client:
                await client.get("/told/fail")
            app.state.operations.close()

        try:
            asyncio.run(run())
        finally:
            collector.shutdown()
            thread.join()
    ((path, body),) = bodies
    assert path == "/v1/traces"
    assert b"GET /told/fail" in body
    assert b"adapter-hub" in body


def test_nothing_of_it_is_imported_where_it_is_off():
    code = (
        "import sys\n"
        "from adapter_hub.config import ServerSettings\n"
        "from adapter_hub.server import app, traces\n"
        "assert traces.open_tracing(ServerSettings(), {}) is None\n"
        # Its API comes with transformers.
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
