"""The contract with transformers' continuous batching: each name that paged.py and attention.py rely on, and its work.

When a new version of transformers fails here, the test's name says what moved.
"""

from __future__ import annotations

import inspect

import pytest
import torch
from transformers import ContinuousBatchingConfig
from transformers.generation.continuous_batching import cache as theirs
from transformers.generation.continuous_batching import continuous_api, initialization, scheduler
from transformers.generation.continuous_batching.cache_allocators import cache_allocator, cache_pool
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList
from transformers.generation.continuous_batching.input_outputs import ContinuousBatchingIOs
from transformers.generation.continuous_batching.model_runner import ModelRunner
from transformers.generation.continuous_batching.requests import FutureRequestState, RequestState, RequestStatus
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import _preprocess_mask_arguments

from adapter_hub.engine import attention, paged
from adapter_hub.engine.budgets import Budgets, PagedSequence
from adapter_hub.testing import random_ids

BUDGETS = Budgets(max_rows=4, max_tokens=16, cache_bytes=1 << 20, page_tokens=8)


def _parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (continuous_api.ContinuousBatchProcessor.__init__, None),
        (continuous_api.ContinuousBatchProcessor.prepare_next_batch, []),
        (continuous_api.ContinuousBatchProcessor.update_batch, []),
        (continuous_api.ContinuousBatchProcessor._update_tp_group_state, []),
        (continuous_api.OutputRouter.deliver, ["output"]),
        (continuous_api.OutputRouter.deliver_batch, ["outputs"]),
        (theirs.PagedAttentionCache.search_prefix_match, ["request_id", "prompt_ids"]),
        (theirs.PagedAttentionCache.mark_complete_blocks, ["state", "complete_blocks"]),
        (
            theirs.PagedAttentionCache.extend_read_and_write_indices,
            ["request_id", "past_length", "query_length", "read_index", "write_index"],
        ),
        (theirs.PagedAttentionCache.update, ["key_states", "value_states", "layer_idx", "kwargs"]),
        (theirs.PagedAttentionCache.reset, []),
        (
            cache_allocator.CacheAllocator.mark_complete_blocks,
            ["request_id", "token_ids", "new_new_blocks"],
        ),
        (cache_allocator.CacheAllocator.get_read_indices, ["request_id", "past_length", "query_length"]),
        (cache_pool.CachePool.count_free_blocks, ["allocator_index"]),
        (scheduler.FIFOScheduler.__init__, ["cache", "safety_margin", "max_requests_per_batch"]),
        (scheduler.Scheduler.add_waiting_request, ["state"]),
        (scheduler.Scheduler.set_request_cancellation, ["request_id"]),
        (scheduler.Scheduler.clear_cancelled_requests, []),
        (ContinuousBatchingIOs.get_model_kwargs, ["use_padding"]),
        (ContinuousBatchingIOs.prepare_batch_update, []),
        (ModelRunner.supports_logits_to_keep, ["model"]),
        (ContinuousBatchingLogitsProcessorList.__init__, None),
        (initialization.resolve_continuous_batching_config, None),
    ],
    ids=lambda thing: getattr(thing, "__qualname__", None),
)
def test_functions_take_what_they_are_given(function, names):
    if names is None:
        names = {
            "ContinuousBatchProcessor.__init__": (
                "cache config generation_config continuous_batching_config logit_processor input_queue cancel_queue "
                "output_router background_thread_status model_device model_dtype scheduler distributed_helper"
            ),
            "ContinuousBatchingLogitsProcessorList.__init__": (
                "logits_processor per_request_processors drop_unsupported_processors"
            ),
            "resolve_continuous_batching_config": "config cb_config workload_hints has_logit_processors device",
        }[function.__qualname__].split()
        assert set(_parameters(function)) >= set(names)
    elif function is cache_pool.CachePool.count_free_blocks:
        assert len(_parameters(function)) == 1
    else:
        assert _parameters(function) == names


def test_the_configuration_has_the_fields_that_are_set():
    for name in (
        "page_size num_blocks max_batch_tokens max_requests_per_batch max_blocks_per_request use_async_batching "
        "use_cuda_graph auto_switch_to_flash max_memory_percent allow_block_sharing"
    ).split():
        assert hasattr(ContinuousBatchingConfig(), name), name


def test_states_have_the_fields_that_are_read():
    state = RequestState(request_id="r", initial_tokens=[1, 2], max_new_tokens=3, eos_token_id=[2])
    for name in "request_id initial_tokens generated_tokens position_offset status".split():
        assert hasattr(state, name), name
    future = FutureRequestState(state, True, {}, 2)
    assert (future.state, future.has_new_token, future.query_length) == (state, True, 2)
    assert RequestStatus.FINISHED > RequestStatus.DECODING


def test_a_mask_of_four_dimensions_is_taken_as_it_is(open_hub):
    mask = torch.empty(1, 1, 1, 1)
    early, same, *_ = _preprocess_mask_arguments(open_hub().model.config, None, mask, None, None, None)
    assert early
    assert same is mask


def test_ordinary_calls_are_sdpas(open_hub, ids):
    hub = open_hub()
    with torch.inference_mode():
        before = hub.model(ids).logits
        attention.register()
        hub.model.config._attn_implementation_internal = attention.NAME
        assert torch.equal(hub.model(ids).logits, before)
        assert torch.equal(hub.model(ids.repeat(2, 1), attention_mask=torch.ones(2, 12)).logits[:1], before)
    assert _parameters(sdpa_attention_forward)[:8] == (
        "module query key value attention_mask dropout scaling is_causal".split()
    )


@pytest.fixture
def open_batch(open_hub):
    """A batch over a tiny base, and the logits that each step chose from."""
    opened = []

    def open_one(kind="llama", budgets=BUDGETS, **options):
        hub, seen = open_hub(kind, **options), []

        def choose(logits, ids):
            seen.append({id: row.clone() for id, row in zip(ids, logits, strict=True)})
            return logits.argmax(-1)

        batch = paged.PagedBatch(hub.base, budgets, choose)
        opened.append(batch)
        return hub, batch, seen

    yield open_one
    for batch in opened:
        batch.close()


def _text(k, length):
    return random_ids(1, length, seed=k)[0].tolist()


@pytest.mark.parametrize("kind", ["llama", "llama-tied", "qwen2", "gpt2", "mistral-sliding"])
def test_logits_are_those_of_the_model_alone(open_batch, kind):
    """Prompts read in pieces and beside rows that decode; windows that slide; pages that fill and end."""
    hub, batch, seen = open_batch(kind)
    texts = {f"t{k}": _text(k, length) for k, length in enumerate((5, 40, 1, 17))}
    for id, ids in texts.items():
        batch.add(PagedSequence(id, list(ids), 0, (), 20, frozenset()))
    while batch.num_sequences:
        for new in batch.step():
            texts[new.id].append(new.token)
    for id, ids in texts.items():
        found = torch.stack([step[id] for step in seen if id in step])
        hub.model.config._attn_implementation_internal = "sdpa"
        with torch.inference_mode():
            expected = hub.model(torch.tensor([ids])).logits[0, -21:-1]
        hub.model.config._attn_implementation_internal = attention.NAME
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_logits_on_a_4_bit_base_stay_within_its_roundings(open_batch):
    hub, batch, seen = open_batch(quantization="nf4", dtype="bfloat16")
    texts = {f"t{k}": _text(k, length) for k, length in enumerate((5, 30, 9))}
    for id, ids in texts.items():
        batch.add(PagedSequence(id, list(ids), 0, (), 12, frozenset()))
    while batch.num_sequences:
        for new in batch.step():
            texts[new.id].append(new.token)
    hub.model.config._attn_implementation_internal = "sdpa"
    for id, ids in texts.items():
        found = torch.stack([step[id] for step in seen if id in step])
        with torch.inference_mode():
            expected = hub.model(torch.tensor([ids])).logits[0, -13:-1].float()
        assert (found - expected).norm() / expected.norm() < 2e-2
    hub.model.config._attn_implementation_internal = attention.NAME


def test_prefixes_are_shared_by_key(open_batch):
    _, batch, seen = open_batch()
    ids = _text(3, 30)
    read = []
    for k, key in enumerate([(), (1, 2, 3), (), (1, 2, 3), (1, 2, 4)]):
        batch.add(PagedSequence(f"s{k}", list(ids), 0, key, 1, frozenset()))
        steps = 0
        while batch.num_sequences:
            batch.step()
            steps += 1
        read.append(steps)
    assert read == [2, 2, 1, 1, 2], "the second of a key reads what no full page holds"
    last = torch.stack([next(iter(step.values())) for step in seen])
    torch.testing.assert_close(last, last[:1].expand_as(last), atol=1e-5, rtol=0)


def test_what_lies_before_an_invocation_is_shared_with_the_base(open_batch):
    _, batch, _ = open_batch()
    ids, read = _text(3, 30), []
    for k, (key, begin) in enumerate([((), 0), ((1, 2, 3), 17), ((1, 2, 3), 17), ((4, 5, 6), 17), ((1, 2, 3), 0)]):
        batch.add(PagedSequence(f"s{k}", list(ids), 0, key, 1, frozenset(), begin))
        batch.step()
        read.append(batch._processor.inputs_and_outputs.num_q_tokens)
        while batch.num_sequences:
            batch.step()
    # Pages of 8 tokens; at most 16 tokens a step. Two pages lie before token 17, three are full.
    assert read == [16, 14, 6, 14, 16]


def test_dropped_sequences_give_their_pages_back(open_batch):
    _, batch, _ = open_batch(budgets=Budgets(max_rows=4, max_tokens=16, cache_bytes=512 * 8 * 12, page_tokens=8))
    total = batch.num_pages
    assert total == 12
    draw = torch.Generator().manual_seed(2)
    live, count = {}, 0
    for _ in range(400):
        action = torch.rand(1, generator=draw).item()
        if action < 0.3 and len(live) < 6:
            count += 1
            length = int(torch.randint(1, 60, (1,), generator=draw))
            live[f"d{count}"] = None
            batch.add(PagedSequence(f"d{count}", _text(count, length), 0, (count % 3,), 12, frozenset()))
        elif action < 0.4 and live:
            id = sorted(live)[int(torch.randint(len(live), (1,), generator=draw))]
            del live[id]
            batch.drop(id)
        for new in batch.step():
            if new.is_last:
                del live[new.id]
        assert 0 <= batch.num_free_pages <= total
        assert batch.num_sequences == len(live)
        held = {id for a in batch._cache.cache_allocators.values() for id in a.block_table}
        assert held <= live.keys()
    while live:
        for new in batch.step():
            if new.is_last:
                del live[new.id]
    assert batch.num_free_pages == total
    assert not batch._cache.keys
