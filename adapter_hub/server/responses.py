"""What the routes answer, as OpenAI's API has it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Finish = Literal["stop", "length"]


class Incomplete(BaseModel):
    """Why the server cut a text: its time was over, or the server was shutting down. As of OpenAI's responses."""

    reason: Literal["deadline", "cancelled"]


class ErrorBody(BaseModel):
    """What is wrong: ``code`` is the word to tell errors apart by, ``param`` the field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """Every answer that is not what was asked for."""

    error: ErrorBody


class Usage(BaseModel):
    """Tokens: of each prompt once, and of all completions."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Alternative(BaseModel):
    """A token that could stand in a place."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatToken(Alternative):
    """A token of a message, with the likeliest ones in its place."""

    top_logprobs: list[Alternative]


class ChatLogprobs(BaseModel):
    """The tokens of a message."""

    content: list[ChatToken]
    refusal: None = None


class AssistantMessage(BaseModel):
    """What the model says."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One of n answers."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish
    incomplete_details: Incomplete | None


class ChatAnswer(BaseModel):
    """The answers to a chat."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class TextLogprobs(BaseModel):
    """The tokens of a text, side by side; ``text_offset`` counts characters from its beginning."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One of n texts for one of the prompts; ``index`` counts through all of them, those of a prompt side by side."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish
    incomplete_details: Incomplete | None


class TextAnswer(BaseModel):
    """The texts for all prompts."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage


class ModelCard(BaseModel):
    """The base, or a registered adapter.

    ``root`` is the reference that means this content and never another; ``parent`` the base that an adapter changes.
    ``tier`` is where it lies now: on disk, in host memory, on the device, or merged into weights there.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["adapter_hub"] = "adapter_hub"
    root: str
    parent: str | None
    variant: str | None
    version: int | None
    aliases: list[str]
    tags: list[str]
    tier: Literal["disk", "host", "device", "merged"]
    max_model_len: int | None


class ModelList(BaseModel):
    """All that the caller may use."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


# For a route's ``responses``: every error has one shape.
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The request is at fault."},
    "5XX": {"model": ErrorAnswer, "description": "The server could not do it."},
}
