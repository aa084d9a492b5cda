"""``/v1/completions``: texts that go on as they are, without a chat template."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ..engine import Completion
from .answers import Answer, ending
from .asking import start
from .chat import GONE
from .requests import CompletionRequest
from .responses import ERRORS, TextAnswer, TextChoice
from .rights import Caller
from .service import Service, caller_of, service_of
from .streams import EventStream
from .tokens import text_logprobs

ROUTE = "/v1/completions"
USUAL_TOKENS = 16  # OpenAI's

router = APIRouter(tags=["OpenAI"], responses=ERRORS)


@router.post(
    ROUTE,
    response_model=TextAnswer,
    responses={200: {"content": {"text/event-stream": {}}, "description": "The texts, or a stream of their pieces."}},
)
async def complete(
    given: CompletionRequest,
    request: Request,
    service: Annotated[Service, Depends(service_of)],
    caller: Annotated[Caller, Depends(caller_of)],
    response: Response,
) -> Any:
    """What comes after each prompt, by the base or by the adapter that ``model`` names."""
    run = await start(service, caller, ROUTE, given, given.prompts(), USUAL_TOKENS)
    answer = Answer(run, "cmpl")
    if given.stream:
        return EventStream(run, _chunks(answer, given.includes_usage))
    done = await run.completions(request)
    response.headers.update(service.limits.headers(caller))
    return Response(status_code=GONE) if done is None else _whole(answer, done)


def _whole(answer: Answer, done: list[Completion]) -> TextAnswer:
    choices = []
    for index, completion in enumerate(done):
        answer.count(completion)
        reported = None if completion.logprobs is None else text_logprobs(answer.tokenizer, completion.logprobs)
        choices.append(TextChoice(index=index, text=completion.text, logprobs=reported, **ending(completion)))
    return TextAnswer(**answer.head, choices=choices, usage=answer.usage())


async def _chunks(answer: Answer, with_usage: bool) -> AsyncIterator[dict[str, Any]]:
    shared = {**answer.head, "object": "text_completion", **({"usage": None} if with_usage else {})}
    offsets: dict[int, int] = defaultdict(int)
    async for index, what in answer.events():
        choice: dict[str, Any] = {"index": index, "text": "", "logprobs": None, "finish_reason": None}
        if isinstance(what, Completion):
            choice.update(ending(what))
        else:
            choice["text"] = what.text
            if answer.has_logprobs:
                reported = text_logprobs(answer.tokenizer, what.logprobs, offsets[index])
                offsets[index] += sum(len(word) for word in reported.tokens)
                choice["logprobs"] = reported.model_dump()
        yield {**shared, "choices": [choice]}
    if with_usage:
        yield {**shared, "choices": [], "usage": answer.usage().model_dump()}
