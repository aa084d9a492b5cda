"""What fails in the engine fails alone, or reaches everybody; and a new start."""

from __future__ import annotations

import threading

import pytest
import torch

from adapter_hub.engine.paged import PagedBatch
from adapter_hub.errors import (
    CorruptFile,
    EngineStopped,
    NoRoom,
    NotRegistered,
    PartialFailure,
    StepFailed,
)
from adapter_hub.room import SlotRoom

from ..until import SECONDS, until
from .jobs import NAMES, PROMPTS, hold_empty


def test_an_adapter_that_fails_to_load_fails_alone(open_three, folders, alone):
    hub = open_three(max_resident=1)
    for name in "abc":
        hub.generate("warm", adapter=name, max_new_tokens=1)  # their tokenizers are known, a and b are out again
    weights = folders[1] / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    hub._residents.places.host.clear()
    with pytest.raises(PartialFailure, match="1 of 3 rows") as failed:
        hub.generate(["x", "y", "z"], adapters=["a", "b", None], max_new_tokens=12)
    assert isinstance(failed.value.errors[1], CorruptFile)
    found = [None if done is None else done.token_ids for done in failed.value.completions]
    assert found == [alone("x", "a"), None, alone("z", None)]


@pytest.fixture
def before_lease(monkeypatch):
    """Has something done right before the engine's next lease of an adapter: after its scheduler has looked."""

    def arrange(act):
        own, left = SlotRoom.lease, [act]

        def lease(room, key):
            if key is not None and left:
                left.pop()()
            return own(room, key)

        monkeypatch.setattr(SlotRoom, "lease", lease)

    return arrange


def test_an_adapter_unloaded_at_the_last_moment_is_brought_again(open_three, alone, before_lease):
    hub = open_three()
    hub.load_adapter("a")
    before_lease(lambda: hub.unload("a"))
    done = hub.generate(["x", "y"], adapters=["a", None], max_new_tokens=12)
    assert [completion.token_ids for completion in done] == [alone("x", "a"), alone("y", None)]
    hold_empty(hub)


def test_an_adapter_removed_by_others_at_the_last_moment_fails_alone(open_three, alone, before_lease):
    hub = open_three()
    hub.load_adapter("a")

    def remove():
        with hub._residents.registry.removing("a"):
            pass

    before_lease(remove)
    with pytest.raises(PartialFailure, match="1 of 2 rows") as failed:
        hub.generate(["x", "y"], adapters=["a", None], max_new_tokens=12)
    assert isinstance(failed.value.errors[0], NotRegistered)
    assert failed.value.completions[1].token_ids == alone("y", None)
    hold_empty(hub)


def test_an_adapter_removed_while_its_requests_wait_fails_alone(open_three, alone, gate):
    hub = open_three(max_resident=1)
    hub.generate("warm", adapter="b", max_new_tokens=1)  # its tokenizer is known
    with gate.shut(after=3):
        busy = hub.submit("x", adapter="a", max_new_tokens=200, ignore_eos=True)
        waiting = hub.submit("x", adapter="b", max_new_tokens=12)
        hub.remove("b")
    with pytest.raises(NotRegistered):
        waiting.result(SECONDS)
    busy.cancel()
    assert busy.result(SECONDS).finish_reason in ("cancelled", "length")
    assert hub.generate("y", adapter="c", max_new_tokens=12).token_ids == alone("y", "c")


def test_all_slots_pinned_is_said_rather_than_waited_out(open_three):
    hub = open_three(max_resident=1, patience=2)
    hub.load_adapter("a")
    hub.pin("a")
    with pytest.raises(NoRoom, match="'b@1' finds no slot"):
        hub.generate("x", adapter="b", max_new_tokens=2)
    with pytest.raises(NoRoom, match="1 adapters are resident, 0 of them in use and 1 pinned"):
        hub.load_adapter("b")
    assert hub.generate("x", adapter="a", max_new_tokens=2).adapter == "a"


class _Failing:
    """Lets the forward fail for batches that hold a certain request."""

    def __init__(self, monkeypatch, fails, error):
        self.own, self.fails, self.error, self.count = PagedBatch._forward, fails, error, 0
        monkeypatch.setattr(PagedBatch, "_forward", lambda batch, running: self(batch, running))

    def __call__(self, batch, running):
        if self.fails(running):
            self.count += 1
            raise self.error
        return self.own(batch, running)


def test_one_bad_request_fails_alone(open_three, alone, monkeypatch):
    hub = open_three()
    hub.generate("start", max_new_tokens=1)
    poison = hub.tokenizer("%")["input_ids"][0]
    _Failing(monkeypatch, lambda running: any(poison in f.state.initial_tokens for f in running), ValueError("poison"))
    jobs = [("x", "a"), ("100%", "b"), ("y", "b"), ("z", None)]
    done = [hub.submit(prompt, adapter=name, max_new_tokens=12) for prompt, name in jobs]
    with pytest.raises(StepFailed, match="poison"):
        done[1].result(SECONDS)
    with pytest.raises(StepFailed, match="poison"):
        list(done[1])
    for k in (0, 2, 3):
        assert done[k].result(SECONDS).token_ids == alone(*jobs[k])
    hold_empty(hub)


def test_a_step_without_memory_is_run_again_in_smaller_ones(open_three, alone, monkeypatch):
    hub = open_three()
    hub.generate("start", max_new_tokens=1)
    jobs = [(prompt, name) for prompt in PROMPTS[2:4] for name in NAMES]
    expected = [alone(*job) for job in jobs]
    failing = _Failing(monkeypatch, lambda running: len(running) > 2, torch.OutOfMemoryError("out of memory"))
    done = [hub.submit(prompt, adapter=name, max_new_tokens=12) for prompt, name in jobs]
    assert [generation.result(SECONDS).token_ids for generation in done] == expected
    assert failing.count
    hold_empty(hub)


def test_a_fatal_error_reaches_every_waiter_and_the_next_request_starts_anew(open_three, alone, monkeypatch):
    hub = open_three(max_rows=2)
    hub.generate("start", max_new_tokens=1)
    with monkeypatch.context() as broken:
        lost, some = threading.Event(), iter(range(5))

        def fails(_):  # in the middle of what it does
            return next(some, None) is None and lost.wait(SECONDS)

        _Failing(broken, fails, torch.AcceleratorError("device lost"))
        done = [hub.submit("x", adapter=name, max_new_tokens=200, ignore_eos=True) for name in NAMES]
        lost.set()
        for generation in done:
            with pytest.raises(EngineStopped, match="device lost"):
                generation.result(SECONDS)
        for generation in done:
            with pytest.raises(EngineStopped):
                list(generation)
    assert not any(hub._residents.in_flight().values())
    assert hub.generate("x", adapter="b", max_new_tokens=12).token_ids == alone("x", "b")


def test_closing_ends_what_runs(open_three, gate):
    hub = open_three()
    with gate.shut(after=3):
        running = hub.submit("x", adapter="a", max_new_tokens=200, ignore_eos=True)
        attention, loop = hub.model.config._attn_implementation, hub._front.engine._loop
        closing = threading.Thread(target=hub.close)
        closing.start()
        until(lambda: not loop.is_alive)
    closing.join()
    with pytest.raises(EngineStopped, match="closed"):
        running.result(SECONDS)
    assert hub.model.config._attn_implementation == "sdpa" != attention
