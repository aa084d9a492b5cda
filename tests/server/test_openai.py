"""OpenAI's own client against a real server on the real base, in NF4 and float32: what it says is what the hub says."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema_rs
import openai
import pytest

from adapter_hub import AdapterHub, Settings
from adapter_hub.base import load_base
from demo.tasks import get_task

from .conftest import serving

ADAPTERS = Path(__file__).parents[2] / "demo" / "adapters"
NAMES = ["contact", "dates", "numbers", "polite", "sentiment", "shell", "sql", "units"]
PARIS = [{"role": "user", "content": "What is the capital of France?"}]
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def hub():
    with AdapterHub(load_base(dtype="float32"), settings=Settings()) as hub:
        for name in NAMES:
            hub.register(name, ADAPTERS / name)
        yield hub


@pytest.fixture(scope="module")
def url(hub):
    with serving(hub) as served:
        yield f"{served.url}/v1"


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def _chat(name: str, k: int = 0) -> list[dict[str, str]]:
    example = get_task(name).examples("held_out", k + 1, seed=5)[k]
    return [{"role": "user", "content": example.prompt}]


def test_models_are_the_base_and_the_adapters(client, hub):
    models = {model.id: model for model in client.models.list()}
    assert list(models) == [hub.base.name, *NAMES]
    assert {models[name].parent for name in NAMES} == {hub.base.name}
    hub.load_adapter("sql")
    one = client.models.retrieve("sql@1")
    assert (one.id, one.root, one.version, one.tier) == ("sql@1", "sql@1", 1, "device")
    assert one.variant == hub.info("sql").variant
    assert client.models.retrieve(hub.base.name).parent is None


@pytest.mark.parametrize("model", ["base", "sql", "sql@1", "sql*0.5+polite*0.5"])
def test_a_chat_says_what_the_hub_says(client, hub, model):
    adapter = None if model == "base" else model
    expected = hub.generate(PARIS, adapter=adapter, max_new_tokens=8)
    answer = client.chat.completions.create(model=model, messages=PARIS, max_completion_tokens=8, temperature=0)
    assert (answer.model, answer.object) == (model, "chat.completion")
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason
    assert answer.usage.prompt_tokens == expected.prompt_tokens
    assert answer.usage.completion_tokens == expected.completion_tokens
    if model == "base":
        assert "Paris" in answer.choices[0].message.content


def test_an_adapter_does_its_task_over_http(client):
    task, chat = get_task("sql"), _chat("sql")
    answer = client.chat.completions.create(model="sql", messages=chat, temperature=0)
    assert task.score(task.examples("held_out", 1, seed=5)[0].answer, answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "stop"


def test_completions_of_several_prompts_keep_their_order(client, hub):
    prompts = ["The capital of France is", "One, two, three,"]
    texts = [done.text for done in hub.generate(prompts, adapter=None, max_new_tokens=5)]
    answer = client.completions.create(model="base", prompt=prompts, max_tokens=5, temperature=0)
    assert [choice.text for choice in answer.choices] == texts
    ids = [hub.encode(prompt) for prompt in prompts]
    same = client.completions.create(model="base", prompt=ids, max_tokens=5, temperature=0)
    assert [choice.text for choice in same.choices] == texts
    assert same.usage == answer.usage


def test_a_stream_is_the_answer_in_pieces(client, hub):
    expected = hub.generate(_chat("sql"), adapter="sql", max_new_tokens=24)
    chunks = list(
        client.chat.completions.create(
            model="sql",
            messages=_chat("sql"),
            max_tokens=24,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *pieces, last, usage = chunks
    assert pieces[0].choices[0].delta.role == "assistant"
    assert len(pieces) > 3
    assert "".join(piece.choices[0].delta.content for piece in pieces) == expected.text
    assert [piece.choices[0].finish_reason for piece in pieces] == [None] * len(pieces)
    assert last.choices[0].finish_reason == expected.finish_reason
    assert (usage.choices, usage.usage.completion_tokens) == ([], expected.completion_tokens)
    assert len({chunk.id for chunk in chunks}) == 1
    plain = client.completions.create(model="base", prompt="One, two,", max_tokens=4, temperature=0, stream=True)
    text = hub.generate("One, two,", adapter=None, max_new_tokens=4).text
    assert "".join(chunk.choices[0].text for chunk in plain) == text


def test_n_choices_are_drawn_with_seeds_of_their_own(client, hub):
    given = {"temperature": 1.0, "seed": 11, "n": 3}
    expected = [done.text for done in hub.generate(PARIS, adapter=None, max_new_tokens=8, **given)]
    assert len(set(expected)) == 3
    answer = client.chat.completions.create(model="base", messages=PARIS, max_tokens=8, **given)
    assert [choice.message.content for choice in answer.choices] == expected
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(model="base", messages=PARIS, max_tokens=8, stream=True, **given):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == expected


def test_stop_ends_the_text_before_it(client):
    asked = {"model": "base", "prompt": "One, two, three, four,", "max_tokens": 16, "temperature": 0}
    whole = client.completions.create(**asked).choices[0].text
    stop = whole[9:13]
    choice = client.completions.create(**asked, stop=[stop, "never"]).choices[0]
    assert choice.text == whole[: whole.index(stop)] != ""
    assert choice.finish_reason == "stop"
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**asked, stop=stop, stream=True))
    assert streamed == choice.text


def test_log_probabilities_come_with_their_tokens_whole_and_streamed(client):
    asked = {"model": "base", "messages": [{"role": "user", "content": "Say: na\u00efve \U0001f600"}], "max_tokens": 12}
    asked |= {"temperature": 0, "logprobs": True, "top_logprobs": 2}
    choice = client.chat.completions.create(**asked).choices[0]
    tokens = choice.logprobs.content
    assert bytes(byte for token in tokens for byte in token.bytes).decode(errors="replace") == choice.message.content
    for token in tokens:
        assert len(token.top_logprobs) == 2
        assert token.top_logprobs[0].token == token.token  # greedy
        assert token.top_logprobs[0].logprob == token.logprob <= 0
    streamed, text = [], ""
    for chunk in client.chat.completions.create(**asked, stream=True):
        text += chunk.choices[0].delta.content or ""
        if chunk.choices[0].logprobs is not None:
            streamed += chunk.choices[0].logprobs.content
            known = bytes(byte for token in streamed for byte in token.bytes)
            assert known.decode(errors="ignore").startswith(text.rstrip("\N{REPLACEMENT CHARACTER}"))
    assert (streamed, text) == (tokens, choice.message.content)
    plain = client.completions.create(model="base", prompt="One, two,", max_tokens=4, temperature=0, logprobs=1)
    reported = plain.choices[0].logprobs
    assert "".join(reported.tokens) == plain.choices[0].text
    assert [max(top.values()) for top in reported.top_logprobs] == reported.token_logprobs
    for offset, token in zip(reported.text_offset, reported.tokens, strict=True):
        assert plain.choices[0].text.startswith(token, offset)


def test_a_schema_makes_valid_json_whoever_answers_beside_free_rows(client, hub):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    chat = _chat("sql")

    def ask(model: str) -> openai.types.chat.chat_completion.Choice:
        asked = {"messages": chat, "max_tokens": 60, "temperature": 0, "response_format": form}
        return client.chat.completions.create(model=model, **asked).choices[0]

    free = hub.generate(PARIS, adapter=None, max_new_tokens=12).text
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, model) for model in ("base", "sql", "contact")]
        beside = client.chat.completions.create(model="base", messages=PARIS, max_tokens=12, temperature=0)
        choices = [each.result() for each in asked]
    for choice in choices:
        assert choice.finish_reason == "stop"
        jsonschema_rs.validate(PERSON, json.loads(choice.message.content))
    assert beside.choices[0].message.content == free
    assert not hub.generate(chat, adapter="sql", max_new_tokens=4).text.startswith("{")
    drawn = {"temperature": 1.0, "seed": 3, "n": 2, "max_tokens": 60, "response_format": form, "stream": True}
    texts = ["", ""]
    for chunk in client.chat.completions.create(model="contact", messages=chat, **drawn):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    for text in texts:
        jsonschema_rs.validate(PERSON, json.loads(text))


def test_an_expression_and_a_mere_object_are_held_to_as_well(client):
    asked = {"model": "base", "max_tokens": 40, "temperature": 0}
    chat = [{"role": "user", "content": "Is water wet?"}]
    answer = client.chat.completions.create(messages=chat, **asked, extra_body={"regex": "(yes|no), [a-z ]{5,20}"})
    assert answer.choices[0].message.content.startswith(("yes, ", "no, "))
    cut = client.chat.completions.create(messages=chat, **asked, response_format={"type": "json_object"})
    assert cut.choices[0].message.content.startswith("{")


@pytest.mark.parametrize(
    ("given", "error", "code", "said"),
    [
        ({"model": "nope"}, openai.NotFoundError, "model_not_found", "nope"),
        ({"model": "sql@9"}, openai.NotFoundError, "model_not_found", "sql@9"),
        ({"model": "sql*x"}, openai.BadRequestError, "request_error", "sql\\*x"),
        ({"max_tokens": 10**6}, openai.BadRequestError, "request_error", "positions"),
        ({"temperature": 9}, openai.BadRequestError, "invalid_value", "temperature"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nope"}}}},
            openai.BadRequestError,
            "request_error",
            "json_schema: Invalid type: nope",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            openai.BadRequestError,
            "unsupported_field",
            "tools",
        ),
    ],
    ids=str,
)
def test_errors_are_those_that_the_client_knows(client, given, error, code, said):
    with pytest.raises(error, match=said) as caught:
        client.chat.completions.create(**{"model": "base", "messages": PARIS, "max_tokens": 4, **given})
    assert caught.value.code == code


def test_64_clients_over_8_adapters_are_answered_as_each_alone(url, hub):
    asked = [(name, _chat(name, k)) for name in NAMES for k in range(2)]
    alone = [hub.generate(chat, adapter=name, max_new_tokens=6).text for name, chat in asked]
    assert len(set(alone)) > 8

    async def ask(name: str, chat: list[dict[str, str]], streamed: bool) -> str:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as own:
            given = {"model": name, "messages": chat, "max_tokens": 6, "temperature": 0}
            if not streamed:
                return (await own.chat.completions.create(**given)).choices[0].message.content
            chunks = await own.chat.completions.create(**given, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    async def ask_all() -> list[str]:
        return await asyncio.gather(*(ask(*each, streamed) for streamed in (True, False) * 2 for each in asked))

    assert asyncio.run(ask_all()) == alone * 4
    assert hub.load().active == hub.load().waiting == 0
