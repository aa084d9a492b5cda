"""What a hub is asked: to generate, to stream, to queue a request."""

from __future__ import annotations

import enum
from collections.abc import Generator, Mapping, Sequence
from typing import Any, overload

from .engine import Completion, Generation, Prompt, Voice
from .errors import RequestError
from .front import Asked, Front, sampling_of
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
        return self._front.can_chat(adapter)

    def resolve(self, adapter: str | None) -> str | None:
        """The key of what a reference or a sum stands for now; it goes on to mean that. None, the base, stays None.

        Raises:
            NotRegistered: there is none.
            RequestError: a sum cannot be read.
        """
        return self._residents.resolve([adapter])[0]

    def encode(self, prompt: Prompt, *, adapter: str | None = None) -> list[int]:
        """Token ids of a prompt, with the tokenizer and chat template of an adapter, or of the base.

        Raises: as ``submit``.
        """
        return self._front.encode(prompt, adapter)

    def voice(self, adapter: str | None) -> Voice:
        """Tokenizer, chat template and end tokens of an adapter, or of the base (None). Raises as ``resolve``."""
        return self._residents.voice(self.resolve(adapter))

    @property
    def max_sequence_tokens(self) -> int | None:
        """Tokens of a prompt and its completion together at most; None where nothing limits them."""
        return self._front.max_sequence_tokens

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
                the chat template; token ids; or a list of these.
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
        single = isinstance(prompts, str) or (bool(prompts) and isinstance(prompts[0], Mapping | int))
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
        is_streamed: bool = True,
        **sampling: Any,
    ) -> Generation:
        """Queue one request and go on; the handle gives its text as it comes, its completion, and a way to cancel.

        Args:
            prompt: as in ``generate``.
            wait: while as many requests wait as may, wait too, rather than raise ``Overloaded``.
            is_streamed: whether its text is wanted piece by piece; without, it costs the engine less.

        Raises: as ``generate``; and ``RequestError`` where the model cannot be batched continuously.
        """
        return self._front.submit(
            prompt, self._names_for([prompt], adapter, None)[0], sampling_of(sampling), deadline, wait, is_streamed
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
    ) -> list[Asked]:
        """What the caller calls the adapter of each row, and the reference by which to find it."""
        if adapters is None:
            if not isinstance(adapter, Default):
                return [Asked(adapter, adapter)] * len(batch)
            default = self._residents.default
            return [Asked(None, None) if default is None else Asked(default.asked, default.key)] * len(batch)
        if isinstance(adapters, str) or len(adapters) != len(batch):
            raise RequestError(
                f"{len(adapters)} adapters were given for {len(batch)} prompts.",
                hint="Give one name (or None) for each prompt, as a list.",
            )
        if not isinstance(adapter, Default):
            raise RequestError("adapter and adapters were both given.", hint="Give one of the two.")
        return [Asked(name, name) for name in adapters]
