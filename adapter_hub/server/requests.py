"""What a request for text may say, field by field. What is not here is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ..engine.sampling import MAX_ALTERNATIVES
from .fields import (
    Content,
    ExactlyOne,
    Fields,
    JsonFormat,
    NoneOf,
    NotAsked,
    NoTool,
    Prompts,
    ResponseFormat,
    SchemaFormat,
    Stops,
    StreamOptions,
    TextAlone,
    Unsupported,
    UsualTier,
)

MAX_CHOICES = 128
MAX_PROMPTS = 2048
Penalty = Annotated[float, Field(ge=-2, le=2)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
TokenId = Annotated[str, Field(pattern="^[0-9]{1,9}$")]


class Choices(Fields):
    """What both ways of asking have in common. A field that is null is as one that is left out."""

    model: str = Field(max_length=4096)
    max_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31, description="-1 and 0 are all tokens.")] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(ge=1e-4, le=100)] | None = None
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] | None = Field(default=None, max_length=1024)
    stop: Stops = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    ignore_eos: bool | None = None
    regex: Annotated[str, Field(max_length=65536, description="What the text has to match as a whole.")] | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, description="Whom the client asks for. It changes no answer.")
    store: NotAsked = None
    metadata: Unsupported = None
    service_tier: UsualTier = None

    @model_validator(mode="after")
    def _hold_together(self) -> Choices:
        if self.stream_options is not None and not self.stream:
            raise _clash("stream_options is for streams alone")
        if self.regex is not None and self.schema_asked() is not None:
            raise _clash("regex cannot stand beside response_format")
        if self.ignore_eos and (self.regex is not None or self.schema_asked() is not None):
            raise _clash("ignore_eos cannot stand beside regex or response_format")
        return self

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with what was used."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def schema_asked(self) -> Mapping[str, Any] | None:
        """The JSON schema that the text has to keep to."""
        if isinstance(self.response_format, JsonFormat):
            return {"type": "object"}
        if isinstance(self.response_format, SchemaFormat):
            return self.response_format.json_schema.schema_ or {}
        return None

    def sampling(self) -> dict[str, Any]:
        """Fields of ``Sampling`` that the request sets."""
        stop, bias = self.stop, self.logit_bias
        given: dict[str, Any] = {
            "max_new_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": None if self.top_k is None else max(0, self.top_k),
            "min_p": self.min_p,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "repetition_penalty": self.repetition_penalty,
            "logit_bias": None if bias is None else {int(token): value for token, value in bias.items()},
            "stop": (stop,) if isinstance(stop, str) else None if stop is None else tuple(stop),
            "seed": self.seed,
            "n": self.n,
            "ignore_eos": self.ignore_eos,
            "regex": self.regex,
            "json_schema": self.schema_asked(),
        }
        return {name: value for name, value in given.items() if value is not None}


class Message(Fields):
    """One turn of a chat. What assistants' messages carry besides is taken where it is empty."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: Unsupported = None
    refusal: Unsupported = None
    annotations: NoneOf = None
    audio: Unsupported = None
    tool_calls: NoneOf = None
    function_call: Unsupported = None

    def as_turn(self) -> dict[str, str]:
        """What a chat template is given."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


class ChatRequest(Choices):
    """The next message of a chat."""

    messages: list[Message] = Field(min_length=1, max_length=4096)
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = None
    safety_identifier: str | None = Field(default=None, description="As user. It changes no answer.")
    tools: NoneOf = None
    tool_choice: NoTool = None
    parallel_tool_calls: Unsupported = None
    functions: NoneOf = None
    function_call: NoTool = None
    modalities: TextAlone = None
    audio: Unsupported = None
    prediction: Unsupported = None
    reasoning_effort: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None
    prompt_cache_key: Unsupported = None

    @model_validator(mode="after")
    def _hold_chat(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise _clash("top_logprobs asks for logprobs to be true")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise _clash("max_tokens and max_completion_tokens say different numbers")
        return self

    def sampling(self) -> dict[str, Any]:
        """As for every request; the newer name of ``max_tokens`` counts too."""
        given = super().sampling()
        if self.max_completion_tokens is not None:
            given["max_new_tokens"] = self.max_completion_tokens
        if self.logprobs:
            given["logprobs"] = self.top_logprobs or 0
        return given


class CompletionRequest(Choices):
    """Texts to go on with, as they are."""

    prompt: Prompts
    logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = None
    echo: NotAsked = None
    best_of: ExactlyOne = None
    suffix: Unsupported = None

    def sampling(self) -> dict[str, Any]:
        """As for every request."""
        given = super().sampling()
        return given if self.logprobs is None else {**given, "logprobs": self.logprobs}

    def prompts(self) -> list[str | list[int]]:
        """The prompts one by one."""
        given = self.prompt
        single = isinstance(given, str) or isinstance(given[0], int)
        return [given] if single else given


def _clash(said: str) -> PydanticCustomError:
    return PydanticCustomError("clash", "{said}", {"said": said})
