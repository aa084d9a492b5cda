"""Captured graphs: their inputs, their padding and what makes them stale. Here a replay runs the step's function again.

So all is tested but the capture itself, which needs a GPU: benchmarks/gpu.py holds that against the other paths.
"""

from __future__ import annotations

import pytest
import torch

from adapter_hub import Settings
from adapter_hub.engine import graphs

from ..test_every_variant import NATIVE, adapters  # noqa: F401


class Rerun:
    """Runs into the same result, as a captured graph does: what a replay reads must stand in the same tensors."""

    made: list[Rerun]

    def __init__(self, run, device):
        self.run, self.count = run, 0
        self.result = run().clone()
        Rerun.made.append(self)

    def replay(self):
        self.count += 1
        self.result.copy_(self.run())


@pytest.fixture
def reruns(monkeypatch):
    Rerun.made = []
    monkeypatch.setattr(graphs, "Capture", Rerun)
    monkeypatch.setattr(graphs, "supports", lambda _: True)
    return Rerun.made


@pytest.fixture
def hub(open_hub, folders, reruns):  # noqa: ARG001
    settings = Settings(cuda_graphs=True, mixed_path="triton", max_rows=3)
    hub = open_hub(settings=settings)
    for name, folder in zip("abc", folders, strict=True):
        hub.register(name, folder)
    return hub


def test_texts_are_those_of_the_other_paths(hub, reruns, open_hub, folders):
    plain = open_hub()
    for name, folder in zip("abc", folders, strict=True):
        plain.register(name, folder)
    rows = ["a", None, "b", "c"]
    prompts = [f"prompt {'long ' * k}" for k in range(len(rows))]
    options = {"adapters": rows, "max_new_tokens": 5}
    expected = plain.generate(prompts, **options)
    assert [done.token_ids for done in hub.generate(prompts, **options)] == [done.token_ids for done in expected]
    assert sum(rerun.count for rerun in reruns) > 4
    base = hub.generate(prompts, adapter=None, max_new_tokens=5)
    assert base == plain.generate(prompts, adapter=None, max_new_tokens=5)


def test_adapters_come_and_go_under_one_graph(hub, reruns):
    for name in "ab":
        hub.load_adapter(name)
    first = {name: hub.generate("x", adapter=name, max_new_tokens=3).token_ids for name in "ab"}
    hub.load_adapter("c")
    third = hub.generate("x", adapter="c", max_new_tokens=3).token_ids
    captured = len(reruns)
    hub.unload("a")
    hub.load_adapter("c")
    hub.load_adapter("a")
    assert {name: hub.generate("x", adapter=name, max_new_tokens=3).token_ids for name in "ab"} == first
    assert hub.generate("x", adapter="c", max_new_tokens=3).token_ids == third
    assert len(reruns) == captured, "the slots' tables stand where they stood"


@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT on saved embeddings
@pytest.mark.usefixtures("reruns")
def test_what_no_kernel_serves_goes_past_the_graphs(open_hub, adapters):  # noqa: F811
    settings = Settings(cuda_graphs=True, mixed_path="triton")
    hub, plain = open_hub(settings=settings), open_hub()
    rows = [None, "lora", "dora", "embedding", *NATIVE]
    for each in (hub, plain):
        for name in rows[1:]:
            each.register(name, adapters / name)
    options = {"adapters": rows, "max_new_tokens": 2}
    expected = plain.generate(["same"] * len(rows), **options)
    assert [d.token_ids for d in hub.generate(["same"] * len(rows), **options)] == [d.token_ids for d in expected]
    batch = hub._front.engine._loop.batch
    slots = {name: hub._residents._slots.find(name) for name in rows if name}
    key = hub._residents.room.capture_key
    assert key([slots["lora"], slots["dora"], 0]) is not None
    assert key([slots["lora"], slots["embedding"]]) is None
    assert batch._graphs is not None


def test_a_capture_that_fails_leaves_graphs_out(hub, monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "Capture", fails)
    assert hub.generate("x", adapter="a", max_new_tokens=4).token_ids
    assert "CUDA graphs are left out" in caplog.text
    assert torch.is_tensor(hub.model.lm_head.weight)
