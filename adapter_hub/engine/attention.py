"""Attention over the pages of continuous batching; every other call of it is transformers' own sdpa.

transformers' sdpa path for such a batch holds a dense mask over all of its tokens, so it costs the square of the
batch. Here rows that decode gather their keys into padded batches of like length, and rows that read a prompt go
one sequence at a time. What is gathered from where is worked out once a step, not once a layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..base import BaseModel
from ..errors import CannotBatch

NAME = "adapter_hub"
SHORTEST_BUCKET = 64


@dataclass(frozen=True)
class Span:
    """One sequence of a step.

    Args:
        request_id: whose pages it reads.
        begin: where its tokens begin in the packed batch.
        num_tokens: how many it has there.
        past: tokens whose keys are cached.
    """

    request_id: str
    begin: int
    num_tokens: int
    past: int


@dataclass(frozen=True)
class Decoding:
    """Sequences of one token and of like length: their ``tokens [R]``, ``keys [R * L]``, ``mask [R, 1, 1, L]``."""

    tokens: Tensor
    keys: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Reading:
    """One sequence of several tokens: its place in the batch, ``keys [L]`` (None: its own alone), and its mask."""

    begin: int
    end: int
    keys: Tensor | None
    mask: Tensor | None


class PagedStep:
    """The sequences of one step, and where each finds its keys."""

    def __init__(self, spans: Sequence[Span], device: torch.device) -> None:
        self.spans = spans
        self.device = device
        self._reads: dict[int, tuple[list[Decoding], list[Reading]]] = {}

    def reads(self, allocator: Any) -> tuple[list[Decoding], list[Reading]]:
        """What the layers of one attention type gather; made once."""
        found = self._reads.get(allocator.index)
        if found is None:
            window = getattr(allocator, "sliding_window", None)
            source = _Pages(self.spans, allocator) if window is None else _Packed(self.spans, window)
            decoding = list(self._decoding(source, window))
            reading = [self._reading(k, source, window) for k, span in enumerate(self.spans) if span.num_tokens > 1]
            found = self._reads[allocator.index] = (decoding, reading)
        return found

    def all_keys(self, allocator: Any) -> tuple[Tensor, Tensor]:
        """Of rows that all decode over full attention: ``keys [R, L]`` and ``lengths [R]``, on the CPU."""
        source = _Pages(self.spans, allocator)
        return source.places(range(len(self.spans)), max(source.lengths)), torch.tensor(source.lengths)

    def _decoding(self, source: _Pages | _Packed, window: int | None) -> Iterator[Decoding]:
        buckets: dict[int, list[int]] = {}
        for k, span in enumerate(self.spans):
            if span.num_tokens == 1:
                length = source.lengths[k]
                buckets.setdefault(max(SHORTEST_BUCKET, 1 << math.ceil(math.log2(length))), []).append(k)
        for members in buckets.values():
            lengths = torch.tensor([source.lengths[k] for k in members])
            longest = int(lengths.max())
            mask = torch.arange(longest) < lengths.unsqueeze(1)
            tokens = torch.tensor([self.spans[k].begin for k in members])
            keys = source.places(members, longest).flatten()
            yield Decoding(tokens.to(self.device), keys.to(self.device), mask[:, None, None].to(self.device))

    def _reading(self, k: int, source: _Pages | _Packed, window: int | None) -> Reading:
        span, length = self.spans[k], source.lengths[k]
        end = span.begin + span.num_tokens
        if not span.past and (window is None or span.num_tokens <= window):
            return Reading(span.begin, end, None, None)
        behind = torch.arange(length - span.num_tokens, length).unsqueeze(1) - torch.arange(length)
        mask = behind >= 0
        if window is not None:
            mask &= behind < window
        return Reading(span.begin, end, source.places([k], length).flatten().to(self.device), mask.to(self.device))


class _Pages:
    """Keys that lie in the cache's pages: all tokens of a sequence."""

    def __init__(self, spans: Sequence[Span], allocator: Any) -> None:
        self.lengths = [span.past + span.num_tokens for span in spans]
        self._tables = [allocator.block_table[span.request_id] for span in spans]
        self._stride, self._page = allocator.block_physical_stride, allocator.tokens_per_page

    def places(self, members: Sequence[int], length: int) -> Tensor:
        """Rows of the layer's view of the cache, [members, length]; beyond a sequence's end any row."""
        num_pages = -(-length // self._page)
        tables = [(self._tables[k] + [0] * num_pages)[:num_pages] for k in members]
        rows = torch.tensor(tables).unsqueeze(2) * self._stride + torch.arange(self._page)
        return rows.flatten(1)[:, :length]


class _Packed:
    """Keys that the cache has gathered already, one sequence after the other: the window of each."""

    def __init__(self, spans: Sequence[Span], window: int) -> None:
        self.lengths = [min(span.past, window - 1) + span.num_tokens for span in spans]
        self._begins = [sum(self.lengths[:k]) for k in range(len(spans))]

    def places(self, members: Sequence[int], length: int) -> Tensor:
        """Positions among the gathered keys, [members, length]; beyond a sequence's end its last."""
        last = torch.tensor([[self.lengths[k] - 1] for k in members])
        return torch.tensor([[self._begins[k]] for k in members]) + torch.arange(length).minimum(last)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cache: PagedAttentionCache | None = None,
    paged_step: PagedStep | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers' models call it.

    Args:
        query: [1, heads, tokens, d]
        key: [1, kv_heads, tokens, d]
        value: [1, kv_heads, tokens, d]
        cache: pages to write to and to read from; without it this is transformers' sdpa.
        paged_step: the sequences of the batch.

    Returns:
        [1, tokens, heads, d], and no weights.
    """
    if cache is None or paged_step is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    keys, values = cache.update(key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=kwargs)
    allocator = cache.layer_to_allocator[module.layer_idx]
    decoding, reading = paged_step.reads(allocator)
    if getattr(allocator, "sliding_window", None) is None:
        source = allocator._kv_token_views[module.layer_idx]
    else:
        source = keys[0].transpose(0, 1), values[0].transpose(0, 1)
    out = torch.empty_like(query)
    for group in decoding:
        _decode(query, out, group, source[0], source[1], scaling)
    for sequence in reading:
        own = slice(sequence.begin, sequence.end)
        if sequence.keys is None:
            k, v = key[:, :, own], value[:, :, own]
        else:
            k, v = (part.index_select(0, sequence.keys).transpose(0, 1).unsqueeze(0) for part in source)
        out[:, :, own] = _read(query[:, :, own], k, v, sequence.mask, scaling)
    return out.transpose(1, 2), None


def _decode(query: Tensor, out: Tensor, group: Decoding, keys: Tensor, values: Tensor, scaling: float | None) -> None:
    num_rows, length = group.mask.shape[0], group.mask.shape[3]
    num_heads, (num_kv, width) = query.shape[1], keys.shape[1:]
    # Query heads that share a key head stand as its queries: no key is copied for them.
    q = query[0].index_select(1, group.tokens).transpose(0, 1).reshape(num_rows, num_kv, num_heads // num_kv, width)
    k, v = (
        part.index_select(0, group.keys).view(num_rows, length, num_kv, -1).transpose(1, 2) for part in (keys, values)
    )
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=group.mask, scale=scaling)
    out[0].index_copy_(1, group.tokens, y.reshape(num_rows, num_heads, -1).transpose(0, 1))


def _read(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    shared = query.shape[1] // key.shape[1]
    if shared > 1:
        key, value = (part.repeat_interleave(shared, dim=1) for part in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling)


def register() -> None:
    """Make the function known to transformers under ``NAME``."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def hold_replaceable(base: BaseModel) -> None:
    """Raise ``CannotBatch`` unless the model's attention can be replaced."""
    model, config = base.model, base.model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    reasons = {
        "its attention is written out in the model": not getattr(model, "_supports_attention_backend", False),
        f"its attention is {config._attn_implementation}": config._attn_implementation not in ("sdpa", NAME),
        "its layers are not all of attention": bool(kinds - {"full_attention", "sliding_attention"}),
    }
    for reason, holds in reasons.items():
        if holds:
            raise CannotBatch(f"{type(model).__name__} cannot be batched continuously: {reason}.")


def use(model: Any, name: str) -> None:
    """Let a model attend by this name from here on."""
    # set_attn_implementation would look for a package that brings an implementation of this name.
    model.config._attn_implementation_internal = name
