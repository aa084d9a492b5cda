"""From what a request says to a job for the engine: the model, its defaults, the prompts as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from ..engine import Prompt
from ..errors import NotRegistered, RequestError
from ..hub import AdapterHub
from ..store import BASE_NAME
from ..store.expression import is_expression
from .exchange import note
from .requests import Choices
from .rights import Caller
from .running import Job, Run
from .service import INFER, Service

MAX_GENERATIONS = 1024
SYSTEM_PROMPT = "system_prompt"
TEMPERATURE = 1.0  # OpenAI's, where neither the request nor the adapter says one


async def start(
    service: Service, caller: Caller, route: str, given: Choices, prompts: Sequence[Prompt], usual_tokens: int | None
) -> Run:
    """Submit what a request asks for. Whoever is given the run ends it.

    Args:
        route: where it came to.
        given: the request.
        prompts: its prompts.
        usual_tokens: tokens of a completion where nobody says how many; None is as many as there is room for.

    Raises:
        AdapterHubError: why it cannot run.
    """
    note(model=given.model)
    job = await run_in_threadpool(_job, service.hub, caller, route, given, prompts, usual_tokens)
    run = Run(service, caller, job)
    await run.start()
    return run


def base_name(hub: AdapterHub) -> str:
    """What the base is called in answers: its Hub id; "base" for one from a folder, whose path is nobody's business."""
    return BASE_NAME if Path(hub.base.name).is_absolute() or Path(hub.base.name).exists() else hub.base.name


def key_of(hub: AdapterHub, caller: Caller, model: str) -> str | None:
    """The key of the adapter, or sum of adapters, that a model's name stands for; None is the base.

    Raises:
        AccessError: the caller may not ask for texts.
        NotRegistered: there is none that the caller may use; nothing is said of the others.
        RequestError: a sum cannot be read.
    """
    caller.require(INFER)
    asked = None if model in (BASE_NAME, hub.base.name) else model
    try:
        caller.hold_usable(asked)
        return hub.resolve(asked)
    except NotRegistered:
        raise no_model(model) from None


def no_model(model: str) -> NotRegistered:
    """The error for a model that is not there for the caller, whether it exists or not."""
    return NotRegistered(f"there is no model {model!r}.", hint="GET /v1/models lists those that you may use.")


def _job(
    hub: AdapterHub, caller: Caller, route: str, given: Choices, prompts: Sequence[Prompt], usual_tokens: int | None
) -> Job:
    key = key_of(hub, caller, given.model)
    defaults = _defaults_of(hub, key)
    system = defaults.pop(SYSTEM_PROMPT, None)
    fields = {"temperature": TEMPERATURE, **defaults, **given.sampling()}
    n = fields.pop("n", 1)
    if n * len(prompts) > MAX_GENERATIONS:
        raise RequestError(
            f"{len(prompts)} prompts with n {n} make {n * len(prompts)} completions.",
            hint=f"Ask for at most {MAX_GENERATIONS} in one request.",
        )
    ids = tuple(hub.encode(_with_system(prompt, system), adapter=key) for prompt in prompts)
    if "max_new_tokens" not in fields:
        fields["max_new_tokens"] = usual_tokens or _left(hub, max(map(len, ids)))
    return Job(route, given.model, key, ids, fields, n, bool(given.stream))


def _defaults_of(hub: AdapterHub, key: str | None) -> dict[str, Any]:
    """What an adapter's requests are like where they do not say it; a sum of adapters has no defaults."""
    if key is None or is_expression(key):
        return {}
    return dict(hub.info(key).defaults)


def _with_system(prompt: Prompt, system: str | None) -> Prompt:
    """A chat under the adapter's system prompt, if it has none of its own."""
    if system is None or isinstance(prompt, str) or not isinstance(prompt[0], Mapping):
        return prompt
    turns = [turn for turn in prompt if isinstance(turn, Mapping)]
    if any(turn["role"] == "system" for turn in turns):
        return prompt
    return [{"role": "system", "content": system}, *turns]


def _left(hub: AdapterHub, prompt_tokens: int) -> int:
    limit = hub.max_sequence_tokens
    return 1 if limit is None else max(1, limit - prompt_tokens)
