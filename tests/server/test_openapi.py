"""schemathesis over the server's own OpenAPI: whatever it makes up, right or wrong, no answer is a failure."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import integers, none, randoms
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from adapter_hub import AdapterHub, Settings
from adapter_hub.config import ServerSettings
from adapter_hub.server import create_app

CHECKS = [
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
    content_type_conformance,
    negative_data_rejection,
]


ROUTES = [
    ("/v1/models", "GET", GenerationMode.POSITIVE),
    ("/v1/models/{model}", "GET", GenerationMode.POSITIVE),  # there is no wrong text for a name
    ("/v1/chat/completions", "POST", GenerationMode.POSITIVE),
    ("/v1/chat/completions", "POST", GenerationMode.NEGATIVE),
    ("/v1/completions", "POST", GenerationMode.POSITIVE),
    ("/v1/completions", "POST", GenerationMode.NEGATIVE),
]


@pytest.fixture(scope="module")
def api(bases):
    with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", settings=Settings()) as hub:
        yield schemathesis.openapi.from_asgi("/openapi.json", _from_here(create_app(hub, ServerSettings())))


def _from_here(app):
    """The application, asked as from this machine: schemathesis says that it is somebody else."""

    async def asked(scope, receive, send):
        if scope["type"] == "http":
            headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope = {**scope, "client": ("127.0.0.1", 4711), "headers": [*headers, (b"host", b"localhost")]}
        await app(scope, receive, send)

    return asked


@pytest.mark.parametrize(("path", "method", "mode"), ROUTES)
def test_no_answer_is_a_failure(api, path, method, mode):
    operation = api[path][method]
    statuses = set()

    @given(case=operation.as_strategy(generation_mode=mode), kept=none() | integers(0, 3), order=randoms())
    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def answered(case, kept, order):
        if kept is not None and mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            # Or hardly a request would come as far as an answer: here a few of the other fields are tried at a time.
            others = sorted(case.body.keys() - {"model", "messages", "prompt", "max_tokens", "max_completion_tokens"})
            for name in ["max_completion_tokens", *order.sample(others, max(0, len(others) - kept))]:
                case.body.pop(name, None)
            case.body |= {"model": "base", "max_tokens": 2}
            case.body |= {"prompt": "hi"} if "prompt" in case.body else {}
        statuses.add(case.call_and_validate(checks=CHECKS).status_code)

    answered()
    if mode is GenerationMode.POSITIVE and path != "/v1/models/{model}":
        assert 200 in statuses
