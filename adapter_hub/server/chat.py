"""``/v1/chat/completions``: the next message of a chat."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ..engine import Completion
from .answers import Answer, ending
from .asking import start
from .requests import ChatRequest
from .responses import ERRORS, AssistantMessage, ChatAnswer, ChatChoice
from .rights import Caller
from .service import Service, caller_of, service_of
from .streams import EventStream
from .tokens import chat_logprobs

ROUTE = "/v1/chat/completions"
GONE = 499  # what servers write down for a client that did not wait; nobody reads it
CHUNK = "chat.completion.chunk"

router = APIRouter(tags=["OpenAI"], responses=ERRORS)


@router.post(
    ROUTE,
    response_model=ChatAnswer,
    responses={200: {"content": {"text/event-stream": {}}, "description": "The answers, or a stream of their pieces."}},
)
async def chat(
    given: ChatRequest,
    request: Request,
    service: Annotated[Service, Depends(service_of)],
    caller: Annotated[Caller, Depends(caller_of)],
    response: Response,
) -> Any:
    """The next message of a chat, by the base or by the adapter that ``model`` names."""
    turns = [message.as_turn() for message in given.messages]
    run = await start(service, caller, ROUTE, given, [turns], None)
    answer = Answer(run, "chatcmpl")
    if given.stream:
        return EventStream(run, _chunks(answer, given.includes_usage))
    done = await run.completions(request)
    response.headers.update(service.limits.headers(caller))
    return Response(status_code=GONE) if done is None else _whole(answer, done)


def _whole(answer: Answer, done: list[Completion]) -> ChatAnswer:
    choices = []
    for index, completion in enumerate(done):
        answer.count(completion)
        reported = None if completion.logprobs is None else chat_logprobs(answer.tokenizer, completion.logprobs)
        message = AssistantMessage(content=completion.text)
        choices.append(ChatChoice(index=index, message=message, logprobs=reported, **ending(completion)))
    return ChatAnswer(**answer.head, choices=choices, usage=answer.usage())


async def _chunks(answer: Answer, with_usage: bool) -> AsyncIterator[dict[str, Any]]:
    shared = {**answer.head, "object": CHUNK, **({"usage": None} if with_usage else {})}

    def chunk(index: int, delta: dict[str, Any], logprobs: Any = None, **end: Any) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None, **end}
        return {**shared, "choices": [choice]}

    for index in range(len(answer.run.generations)):
        yield chunk(index, {"role": "assistant", "content": ""})
    async for index, what in answer.events():
        if isinstance(what, Completion):
            yield chunk(index, {}, **ending(what))
            continue
        reported = chat_logprobs(answer.tokenizer, what.logprobs).model_dump() if answer.has_logprobs else None
        yield chunk(index, {"content": what.text}, reported)
    if with_usage:
        yield {**shared, "choices": [], "usage": answer.usage().model_dump()}
