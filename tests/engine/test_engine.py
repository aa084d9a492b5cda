"""The engine on a tiny model: rows as alone whatever comes and goes, limits, draws and what is told of them."""

from __future__ import annotations

import random
import threading
import time

import pytest
import torch

from adapter_hub import Settings
from adapter_hub.errors import (
    AdapterHubError,
    NotRegistered,
    Overloaded,
    RequestError,
)
from adapter_hub.testing import random_ids

from ..until import SECONDS, until
from .jobs import NAMES, draw_jobs, hold_empty


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_resident": 1, "patience": 4},  # every other adapter has to leave for the next
        {"max_rows": 3, "max_batch_tokens": 7},  # prompts in pieces
        {"max_rows": 4, "cache_bytes": 16 * 512 * 32},  # 16 pages of 32 tokens: sequences have to give theirs up
    ],
    ids=["roomy", "one slot", "pieces", "few pages"],
)
def test_every_row_is_what_it_is_alone(open_three, alone, settings):
    hub = open_three(**settings)
    jobs = draw_jobs(40)
    done = [hub.submit(prompt, adapter=name, max_new_tokens=new) for prompt, name, new in jobs]
    for (prompt, name, new), generation in zip(jobs, done, strict=True):
        completion = generation.result(SECONDS)
        assert completion.token_ids == alone(prompt, name, new), (prompt, name, new)
        assert completion.adapter == name
        assert "".join(generation) == completion.text
    hold_empty(hub)


def test_staggered_arrivals_cancellations_and_evictions(open_three, alone):
    hub = open_three(max_resident=2, max_rows=5, max_batch_tokens=16, patience=4)
    jobs, draw, kept, left = draw_jobs(60, seed=3), random.Random(1), [], []
    for k, (prompt, name, new) in enumerate(jobs):
        generation = hub.submit(prompt, adapter=name, max_new_tokens=new)
        (left if k % 5 == 4 else kept).append(((prompt, name, new), generation))
        if k % 5 == 4:
            time.sleep(draw.random() * 0.02)
            generation.cancel()
    for (prompt, name, new), generation in kept:
        assert generation.result(SECONDS).token_ids == alone(prompt, name, new)
    for (prompt, name, new), generation in left:
        found = generation.result(SECONDS)
        assert found.token_ids == alone(prompt, name, new)[: len(found.token_ids)]
        assert found.finish_reason in ("cancelled", "stop", "length")
    hold_empty(hub)


def test_threads_share_the_engine(open_three, alone):
    hub, wrong = open_three(max_resident=2), []
    expected = {name: alone("shared", name) for name in NAMES}

    def client(seed):
        draw = random.Random(seed)
        for _ in range(6):
            name = draw.choice(NAMES)
            if hub.generate("shared", adapter=name, max_new_tokens=12).token_ids != expected[name]:
                wrong.append(name)

    threads = [threading.Thread(target=client, args=[seed]) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_thousand_prompts_over_many_adapters_just_work(open_hub, folders, capsys):
    hub = open_hub(settings=Settings(max_resident=4, max_waiting=64))
    names = [f"n{k}" for k in range(50)]
    for k, name in enumerate(names):
        hub.register(name, folders[k % 3])
    rows = [names[k % 50] for k in range(1000)]
    done = hub.generate(["go"] * 1000, adapters=rows, max_new_tokens=2, progress=True)
    assert [completion.adapter for completion in done] == rows
    for first in range(3):
        assert len({done[k].text for k in range(1000) if k % 50 % 3 == first}) == 1
    assert "1000/1000" in capsys.readouterr().err


def test_equal_prompts_under_different_adapters_share_no_pages(open_three, alone):
    hub, prompt = open_three(), "one long prompt that fills several pages of the cache " * 3
    for _ in range(2):
        rows = ["a", "b", None, "c", "a"]
        done = [hub.generate(prompt, adapter=name, max_new_tokens=12) for name in rows]
        assert [completion.token_ids for completion in done] == [alone(prompt, name) for name in rows]
    assert len({completion.token_ids for completion in done}) == 4
    cache = hub._front.engine._loop.batch._cache
    kept = sum(len(allocator.ledger.cached_blocks) for allocator in cache.cache_allocators.values())
    assert kept >= 4 * (len(prompt) // 32), "and each of them is shared with itself"


def test_other_weights_under_the_same_name_get_pages_of_their_own(open_three, folders, alone):
    hub, prompt = open_three(), "one long prompt that fills several pages of the cache " * 3
    assert hub.generate(prompt, adapter="a", max_new_tokens=12).token_ids == alone(prompt, "a")
    hub.remove("a")
    hub.register("a", folders[1])
    assert hub.generate(prompt, adapter="a", max_new_tokens=12).token_ids == alone(prompt, "b")


def test_seeds_repeat_and_n_gives_several(open_three):
    hub = open_three()
    options = {"adapter": "a", "max_new_tokens": 12, "temperature": 1.5}
    first = hub.generate("draw", seed=7, n=3, **options)
    assert [done.token_ids for done in first] == [
        done.token_ids for done in hub.generate("draw", seed=7, n=3, **options)
    ]
    assert len({done.token_ids for done in first}) > 1
    beside = hub.generate(["draw", "other", "more"], seed=7, **options)
    assert beside[0].token_ids == first[0].token_ids, "the same draws beside other rows"
    assert hub.generate("draw", seed=8, **options).token_ids == first[1].token_ids
    assert [len(some) for some in hub.generate(["x", "y"], n=2, max_new_tokens=2)] == [2, 2]


def test_log_probabilities_are_the_models_own(open_three):
    hub = open_three()
    done = hub.generate("measure", adapter="b", max_new_tokens=6, logprobs=3)
    ids = [*hub.tokenizer("measure")["input_ids"], *done.token_ids]
    with hub.rows(["b"]), torch.inference_mode():
        expected = hub.model(torch.tensor([ids])).logits[0, -len(done.token_ids) - 1 : -1].log_softmax(-1)
    assert len(done.logprobs) == len(done.token_ids)
    for at, (token, reported) in enumerate(zip(done.token_ids, done.logprobs, strict=True)):
        assert reported.token_id == token
        assert reported.logprob == pytest.approx(float(expected[at, token]), abs=1e-4)
        values, best = expected[at].topk(3)
        assert [token for token, _ in reported.alternatives] == best.tolist()
        assert [value for _, value in reported.alternatives] == pytest.approx(values.tolist(), abs=1e-4)
    assert hub.generate("measure", max_new_tokens=2).logprobs is None


def test_a_deadline_ends_a_request_with_what_it_has(open_three):
    hub = open_three()
    whole = hub.generate("slowly", adapter="a", max_new_tokens=200, ignore_eos=True)
    late = hub.generate("slowly", adapter="a", max_new_tokens=200, ignore_eos=True, deadline=0.03)
    assert late.finish_reason == "deadline"
    assert whole.token_ids[: len(late.token_ids)] == late.token_ids
    assert len(late.token_ids) < 200
    assert 0 <= whole.timing.queued <= whole.timing.first_token <= whole.timing.total


def test_a_full_queue_turns_requests_away_or_holds_the_caller_back(open_three, gate):
    hub = open_three(max_waiting=2, max_rows=1)
    with gate.shut():
        running = [hub.submit("x", max_new_tokens=100, ignore_eos=True)]
        until(lambda: hub.load().active)
        running += [hub.submit("x", max_new_tokens=1) for _ in range(2)]
        with pytest.raises(Overloaded, match="2 requests wait"):
            hub.submit("x", max_new_tokens=1, wait=False)
    assert hub.submit("x", max_new_tokens=1).result(SECONDS).completion_tokens <= 1
    for generation in running:
        generation.result(SECONDS)


def test_what_can_never_fit_is_refused(open_three):
    hub = open_three(cache_bytes=4 * 512 * 32)
    with pytest.raises(RequestError, match="cache of keys and values holds 128"):
        hub.generate("x" * 100, max_new_tokens=60)
    with pytest.raises(NotRegistered):
        hub.generate(["x", "y"], adapters=["a", "nobody"])
    assert hub.generate("x", max_new_tokens=2).completion_tokens <= 2


def test_direct_forwards_go_on_beside_the_engine(open_three):
    hub = open_three()
    ids = random_ids(2)
    with hub.rows(["a", None]), torch.inference_mode():
        before = hub.model(ids).logits
        running = hub.submit("x", adapter="b", max_new_tokens=100, ignore_eos=True)
        while not running.is_done:
            assert torch.equal(hub.model(ids).logits, before)
    assert running.result().completion_tokens == 100


def test_models_with_attention_of_their_own_run_through_generate(open_hub, caplog):
    hub = open_hub("bloom")
    assert hub.generate("x", max_new_tokens=3).completion_tokens <= 3
    assert "cannot be batched continuously" in caplog.text
    assert "".join(hub.stream("x", max_new_tokens=3)) == hub.generate("x", max_new_tokens=3).text
    with pytest.raises(RequestError, match="logprobs, seed cannot be chosen"):
        hub.generate("x", seed=1, logprobs=1)
    with pytest.raises(AdapterHubError, match="written out in the model"):
        hub.submit("x")
