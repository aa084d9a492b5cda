"""The paged cache of keys and values, whose prefixes are shared under an adapter's content alone."""

from __future__ import annotations

from typing import Any

from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.requests import RequestState

from .budgets import PageKey


class KeyedCache(PagedAttentionCache):
    """Prefixes are shared between sequences of one key: the same tokens under two adapters have other keys and values.

    The hash of a prefix chains those of its blocks, so it is enough that the key is in the first one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.keys: dict[str, tuple[PageKey, int]] = {}  # and the token from which on the key counts

    def search_prefix_match(self, request_id: str, prompt_ids: list[int]) -> int:
        """As theirs, among the pages of the sequence's key."""
        return super().search_prefix_match(request_id, self._keyed(request_id, prompt_ids))

    def mark_complete_blocks(self, state: RequestState, complete_blocks: dict[str, int]) -> None:
        """As theirs, under the sequence's key."""
        # Of a sequence that ends with this step too: theirs leaves it out for the sake of asynchronous steps.
        if self.allow_block_sharing and complete_blocks:
            tokens = self._keyed(state.request_id, state.initial_tokens + state.generated_tokens)
            for name, count in complete_blocks.items():
                self.cache_allocators[name].mark_complete_blocks(state.request_id, tokens, count)

    def extend_read_and_write_indices(
        self, request_id: str, past_length: int, query_length: int, read_index: Any, write_index: Any
    ) -> None:
        """As theirs, without what layers of full attention read."""
        # Full attention gathers by PagedStep: listing each cached token in Python would cost more than the attention.
        super().extend_read_and_write_indices(request_id, past_length, query_length, None, write_index)
        if read_index is not None:
            for allocator, read in zip(self.cache_allocators.values(), read_index, strict=True):
                if getattr(allocator, "sliding_window", None) is not None:
                    read.extend(allocator.get_read_indices(request_id, past_length, query_length))

    def _keyed(self, request_id: str, ids: list[int]) -> list[int]:
        key, begin = self.keys[request_id]
        if not key:
            return ids
        # What an adapter that is invoked has before it acts is the base's, and shared with it.
        end = begin + len(key)
        return ids[:begin] + [token ^ word for token, word in zip(ids[begin:end], key, strict=False)] + ids[end:]
