"""schemathesis over the server's own OpenAPI: whatever it makes up, right or wrong, no answer is a failure."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
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


@pytest.fixture(scope="module")
def api(bases):
    with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", settings=Settings()) as hub:
        schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(hub, ServerSettings()))
        schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
        yield schema


schema = schemathesis.pytest.from_fixture("api")


@schemathesis.hook
def map_body(context, body):  # noqa: ARG001 - schemathesis gives it by its name
    """Let half of the made-up requests name a model that is there, or few would come as far as an answer."""
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 2 == 0:
        body["model"] = "base"
    return body


@schema.include(path_regex="^/v1/(chat/completions|completions|models)").parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_answer_is_a_failure(case):
    case.call_and_validate(checks=CHECKS)
