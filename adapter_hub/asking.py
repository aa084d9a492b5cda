"""What a hub is asked: to generate, to stream, to queue a request."""

from __future__ import annotations

import enum
from collections.abc import Generator, Mapping, Sequence
from typing import Any, overload

from .engine import Completion, Generation, Prompt
from .errors import RequestError
from .front import Front, sampling_of
from .residents import Residents


class Default(enum.Enum):
    """Stands for the adapter that ``set_adapter`` chose, where None already means the base."""

    ADAPTER = "default adapter"


class Asking:
    """The part of a hub that runs prompts."""

    _residents: Residents
    _front: Front

    def can_chat(self, adapter: str | None) -> bool:
        """Whether chat messages can be put to an adapter (None is the base): somebody brought a template."""
        return self._residents.voice(adapter).has_chat_template

    @overload
    def generate(self, prompts: str, *, adapter: str | Default | None = ..., **sampling: Any) -> Completion: ...
    @overload
    def generate(
        self,
        prompts: Sequence[Any],
        *,
        adapter: str | Default | None = ...,
        adapters: Sequence[str | None] | None = ...,
        deadline: float | None = ...,
        progress: bool = ...,
        **sampling: Any,
    ) -> Any: ...
    def generate(
        self,
        prompts: Any,
        *,
        adapter: str | Default | None = Default.ADAPTER,
        adapters: Sequence[str | None] | None = None,
        deadline: float | None = None,
        progress: bool = False,
        **sampling: Any,
    ) -> Any:
        """Generate for one prompt or for any number of them, each with its own adapter, as one mixed batch.

        Args:
            prompts: a text, continued as it is; chat messages (mappings with role and content), put through
                the chat template; or a list of either.
            adapter: the adapter of all rows; None is the base; left out, what ``set_adapter`` chose.
            adapters: one name or None a row, in place of ``adapter``.
            deadline: seconds after which a row ends with what it has.
            progress: show a progress bar.
            **sampling: fields of ``Sampling``.

        Returns:
            A ``Completion`` for one prompt, a list of them for a list. With ``n`` above 1 each of them is a
            list of n.

        Raises:
            RequestError: the prompts, names or sampling values are not in order; nothing was run.
            PartialFailure: some rows of a list failed, and the others are in it. A single prompt raises its own error.
        """
        single = isinstance(prompts, str) or (bool(prompts) and isinstance(prompts[0], Mapping))
        batch: Sequence[Prompt] = [prompts] if single else prompts
        names = self._names_for(batch, adapter, adapters)
        if not batch:
            return []
        done = self._front.generate(batch, names, sampling_of(sampling), deadline, progress)
        return done[0] if single else done

    def submit(
        self,
        prompt: Prompt,
        *,
        adapter: str | Default | None = Default.ADAPTER,
        deadline: float | None = None,
        wait: bool = True,
        **sampling: Any,
    ) -> Generation:
        """Queue one request and go on; the handle gives its text as it comes, its completion, and a way to cancel.

        Args:
            prompt: as in ``generate``.
            wait: while as many requests wait as may, wait too, rather than raise ``Overloaded``.

        Raises: as ``generate``; and ``RequestError`` where the model cannot be batched continuously.
        """
        return self._front.submit(
            prompt, self._names_for([prompt], adapter, None)[0], sampling_of(sampling), deadline, wait
        )

    def stream(
        self, prompt: Prompt, *, adapter: str | Default | None = Default.ADAPTER, **sampling: Any
    ) -> Generator[str, None, None]:
        """Generate for one prompt and give out the text piece by piece; arguments as ``generate``.

        Closing the iterator ends the generation.
        """
        return self._front.stream(prompt, self._names_for([prompt], adapter, None)[0], sampling_of(sampling))

    def _names_for(
        self, batch: Sequence[Prompt], adapter: str | Default | None, adapters: Sequence[str | None] | None
    ) -> list[str | None]:
        if adapters is None:
            return [self._residents.default if isinstance(adapter, Default) else adapter] * len(batch)
        if isinstance(adapters, str) or len(adapters) != len(batch):
            raise RequestError(
                f"{len(adapters)} adapters were given for {len(batch)} prompts.",
                hint="Give one name (or None) for each prompt, as a list.",
            )
        if not isinstance(adapter, Default):
            raise RequestError("adapter and adapters were both given.", hint="Give one of the two.")
        return list(adapters)
