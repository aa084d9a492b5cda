"""What touches the inside of transformers' continuous batching, with pages.py; tests/engine/test_seam.py names it all.

Kept from there: the paged cache with prefix sharing, its scheduler of pages and chunks, the packed inputs of a step.
Replaced: the loop and its thread (engine.py drives steps), the hashes of shared prefixes (here by adapter too),
attention (attention.py), sampling (choosing.py), and what becomes of errors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching import initialization
from transformers.generation.continuous_batching.cache_allocators import FULL_ATTENTION
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList
from transformers.generation.continuous_batching.continuous_api import (
    BackgroundThreadStatus,
    ContinuousBatchProcessor,
    OutputRouter,
)
from transformers.generation.continuous_batching.distributed import DistributedHelper
from transformers.generation.continuous_batching.requests import FutureRequestState, RequestState, RequestStatus
from transformers.generation.continuous_batching.scheduler import FIFOScheduler
from transformers.generation.logits_process import LogitsProcessorList

from ..base import BaseModel
from ..errors import BaseModelError
from ..runtime import RowMap, in_force
from ..store import BASE_SLOT
from . import attention, graphs
from .attention import PagedStep, Span
from .budgets import Budgets, NewToken, PagedSequence
from .graphs import CaptureKey, DecodeGraphs
from .pages import KeyedCache

# From the logits [n, vocabulary] of these sequences, in float32, to their next tokens [n].
Choose = Callable[[Tensor, Sequence[str]], Tensor]


class PagedBatch:
    """Sequences that run together over one paged cache. One thread drives it.

    Args:
        base: the model; its attention is ``attention.attend`` from here on, until ``close``.
        budgets: sizes.
        choose: picks the tokens.
        capture_key: see ``EngineRoom``; None captures no graphs.

    Raises:
        CannotBatch: the model's architecture cannot be run like this.
        BaseModelError: the cache does not fit.
    """

    def __init__(
        self, base: BaseModel, budgets: Budgets, choose: Choose, capture_key: CaptureKey | None = None
    ) -> None:
        self.base = base
        self.budgets = budgets
        self.choose = choose
        self._sequences: dict[str, PagedSequence] = {}
        self._own_attention = base.model.config._attn_implementation
        attention.hold_replaceable(base)
        attention.register()
        config = copy.deepcopy(base.model.config.get_text_config())
        config._attn_implementation_internal = f"{attention.NAME}_flash"  # "flash": no dense mask is allocated
        try:
            with torch.inference_mode(False), torch.no_grad():  # steps of other modes write to its tensors
                self._processor = _processor(base, config, budgets)
        except (MemoryError, ValueError, torch.OutOfMemoryError) as error:
            raise BaseModelError(
                f"the cache of keys and values cannot be made: {error}.", hint="Lower cache_bytes or max_batch_tokens."
            ) from error
        self._cache: KeyedCache = self._processor.cache
        self._scheduler: FIFOScheduler = self._processor.scheduler
        self.running: list[str] = []
        attention.use(base.model, attention.NAME)
        self._graphs: DecodeGraphs | None = None
        full = list(self._cache.cache_allocators) == [FULL_ATTENTION]
        keeps = self._processor.model_runner.supports_logits_to_keep(base.model)
        if capture_key is not None and graphs.supports(base.device) and full and keeps:
            self._graphs = DecodeGraphs(base, self._cache, capture_key, budgets.max_rows)

    def close(self) -> None:
        """Give the model its own attention back and free the pages."""
        attention.use(self.base.model, self._own_attention)
        self._sequences.clear()
        self._cache.reset()
        self._graphs = None
        del self._processor, self._cache, self._scheduler

    def forget(self) -> None:
        """Free every page, those kept for their prefixes too. No sequence may be left."""
        self._cache.reset()

    @property
    def max_sequence_tokens(self) -> int:
        """The longest sequence that the pages can hold, with nothing beside it."""
        return self.num_pages * self.budgets.page_tokens

    @property
    def num_pages(self) -> int:
        """Pages of one layer, free or not."""
        return min(allocator.num_blocks for allocator in self._cache.cache_allocators.values())

    @property
    def num_free_pages(self) -> int:
        """Pages that no sequence uses; what is kept of finished ones for its prefix counts as free."""
        free = self._cache.pool.num_free_sectors * min(
            a.blocks_per_sector for a in self._cache.cache_allocators.values()
        )
        for allocator in self._cache.cache_allocators.values():
            free += self._cache.pool.count_free_blocks(allocator.index) + len(allocator.ledger.cached_blocks)
        return free

    @property
    def num_sequences(self) -> int:
        """Sequences that have begun or wait for pages."""
        return len(self._sequences)

    @property
    def num_waiting(self) -> int:
        """Sequences that no page could be found for yet, or that had to give theirs up."""
        return len(self._scheduler.waiting_requests)

    def add(self, sequence: PagedSequence) -> None:
        """Let a sequence take part from the next step on."""
        state = RequestState(
            request_id=sequence.id,
            initial_tokens=list(sequence.ids),
            max_new_tokens=sequence.max_new_tokens,
            eos_token_id=sorted(sequence.stop_ids),
        )
        self._sequences[sequence.id] = sequence
        self._cache.keys[sequence.id] = sequence.key, sequence.active_from
        self._scheduler.add_waiting_request(state)

    def drop(self, id: str) -> None:
        """End a sequence, and free its pages."""
        if self._sequences.pop(id, None) is not None:
            self._scheduler.set_request_cancellation(id)
            self._scheduler.clear_cancelled_requests()
            self._scheduler.block_new_requests = False
            del self._cache.keys[id]

    def step(self) -> list[NewToken]:
        """Run all sequences that fit into one forward, and give each its next token.

        Sequences that read a long prompt get one only with its last piece. An error leaves the sequences of the
        step (``running``) in doubt: drop them, and add them again with what they have.
        """
        self.running = []
        processor = self._processor
        if not processor.prepare_next_batch():
            return []
        batch: list[FutureRequestState] = processor.inputs_and_outputs.requests_in_batch
        self.running = [future.state.request_id for future in batch]
        is_merged = self._forward(batch)
        tokens = iter(processor.inputs_and_outputs.prepare_batch_update()[1])
        processor.update_batch()
        new = []
        for future in batch:
            if future.has_new_token:
                is_last = future.state.status == RequestStatus.FINISHED
                new.append(NewToken(future.state.request_id, next(tokens), is_last, is_merged))
        for ended in new:
            if ended.is_last:
                del self._sequences[ended.id], self._cache.keys[ended.id]
        return new

    def _segments(self, spans: Sequence[Span]) -> tuple[list[int], list[int], list[int]]:
        """Slots and lengths of what lies packed, and by sequence its last part: an adapter may act on a part alone."""
        slots: list[int] = []
        lengths: list[int] = []
        last = []
        for span in spans:
            sequence = self._sequences[span.request_id]
            before = min(max(0, sequence.active_from - span.past), span.num_tokens)
            for slot, length in ((BASE_SLOT, before), (sequence.slot, span.num_tokens - before)):
                if length:
                    slots.append(slot)
                    lengths.append(length)
            last.append(len(slots) - 1)
        return slots, lengths, last

    @torch.inference_mode()
    def _forward(self, batch: Sequence[FutureRequestState]) -> bool:
        """Run a step; says whether it was merged weights that ran."""
        if self.base.model.config._attn_implementation != attention.NAME:
            raise RuntimeError("somebody changed the model's attention while requests run")
        inputs = self._processor.inputs_and_outputs
        data = inputs.get_model_kwargs()
        spans, begin = [], 0
        for future in batch:
            past = future.state.position_offset - future.query_length
            spans.append(Span(future.state.request_id, begin, future.query_length, past))
            begin += future.query_length
        ends = [k for k, future in enumerate(batch) if future.has_new_token]
        data["logits_indices"] = data["logits_indices"][: len(ends) or 1]  # the head sees one token at least
        # Four dimensions: a mask that is ready. None would have transformers look for packed sequences, and make one.
        data["attention_mask"] = _NO_MASK
        keeps = self._processor.model_runner.supports_logits_to_keep(self.base.model)
        if keeps:
            data["logits_to_keep"] = data["logits_indices"]
        slots, lengths, last = self._segments(spans)
        rows = RowMap.packed(slots, lengths, [last[k] for k in ends or [0]] if keeps else None)
        step = PagedStep(spans, self.base.device)
        logits = None if self._graphs is None else self._graphs.run(step, data, slots)
        if logits is None:
            with in_force(rows):
                logits = self.base.model(**data, paged_step=step).logits[0]
        if ends:
            logits = logits if keeps else logits[data["logits_indices"]]
            due = [spans[k].request_id for k in ends]
            inputs.output_ids[0, : len(due)] = self.choose(logits.float(), due)
        return rows.ran_merged


_NO_MASK = torch.empty(1, 1, 1, 1)


class _Processor(ContinuousBatchProcessor):
    """Takes its requests from whoever drives it, and reports to nobody."""

    def _update_tp_group_state(self) -> bool:
        return False

    def __del__(self) -> None:
        """Nothing: theirs collects all garbage of the process, which takes a second."""


class _Silence(OutputRouter):
    def deliver(self, output: Any) -> None:
        pass

    def deliver_batch(self, outputs: Any) -> None:
        pass


def _processor(base: BaseModel, config: Any, budgets: Budgets) -> _Processor:
    model = base.model
    generation_config = GenerationConfig(do_sample=False, eos_token_id=-1)
    logit_processor = ContinuousBatchingLogitsProcessorList(LogitsProcessorList())
    wanted = ContinuousBatchingConfig(
        page_size=budgets.page_tokens,
        num_blocks=_num_blocks(config, budgets, model.dtype),
        max_batch_tokens=max(budgets.max_tokens, budgets.max_rows),
        max_requests_per_batch=budgets.max_rows,
        max_blocks_per_request=0,
        use_async_batching=False,
        use_cuda_graph=False,
        auto_switch_to_flash=False,
        max_memory_percent=1.0,
    )
    resolved = initialization.resolve_continuous_batching_config(
        config=config, cb_config=wanted, workload_hints=None, has_logit_processors=False, device=base.device
    )
    helper = DistributedHelper(device_mesh=None, cpu_group_timeout=None)
    keeps = callable(getattr(model, "_supports_logits_to_keep", None)) and model._supports_logits_to_keep()
    cache = KeyedCache(
        config=config,
        continuous_batching_config=resolved,
        device=base.device,
        distributed_helper=helper,
        dtype=model.dtype,
        model_supports_logits_to_keep=keeps,
    )
    processor = _Processor(
        cache=cache,
        config=config,
        generation_config=generation_config,
        continuous_batching_config=resolved,
        logit_processor=logit_processor,
        input_queue=None,
        cancel_queue=None,
        output_router=_Silence(),
        background_thread_status=BackgroundThreadStatus(),
        model_device=base.device,
        model_dtype=model.dtype,
        scheduler=FIFOScheduler(cache, safety_margin=0.0, max_requests_per_batch=budgets.max_rows),
        distributed_helper=helper,
    )
    # One stream for inputs, forward and outputs: nothing then has to wait for another stream by hand.
    processor.inputs_and_outputs.compute_stream = None
    return processor


def _num_blocks(config: Any, budgets: Budgets, dtype: torch.dtype) -> int:
    from transformers.generation.continuous_batching.utils import find_head_dim, find_num_key_value_heads

    per_token = 2 * find_num_key_value_heads(config) * find_head_dim(config) * dtype.itemsize * config.num_hidden_layers
    # More than every row at its longest can never be used.
    positions = getattr(config, "max_position_embeddings", None) or budgets.cache_bytes
    useful = budgets.max_rows * -(-positions // budgets.page_tokens)
    return max(1, min(useful, budgets.cache_bytes // (per_token * budgets.page_tokens)))
