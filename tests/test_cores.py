"""Helping threads of those who have computed: they go, so that they slow nobody down."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
import torch

from adapter_hub import cores

from .until import until

TASKS = Path("/proc/self/task")
needs_openmp = pytest.mark.skipif(
    not (sys.platform == "linux" and torch.backends.openmp.is_available()), reason="needs Linux and OpenMP"
)


@pytest.fixture
def three_threads():
    """Called in a thread, lets it compute with three, and others of this process that start within the test."""
    before = torch.get_num_threads()
    yield lambda: torch.set_num_threads(3)
    torch.set_num_threads(before)


@needs_openmp
def test_the_helpers_of_a_thread_end_and_come_back(three_threads):
    found: list[int] = []

    def helpers(before: set[str]) -> int:
        return len({task.name for task in TASKS.iterdir()} - before)

    def work():
        three_threads()
        before = {task.name for task in TASKS.iterdir()}
        large = torch.ones(1 << 20)
        for _ in range(2):
            large.add(1)
            found.append(helpers(before))
            cores.release()
            until(lambda: not helpers(before))
            found.append(helpers(before))
        cores.release()  # without any it does nothing

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [2, 0, 2, 0]


@needs_openmp
def test_a_thread_that_is_to_compute_alone_has_no_helpers_and_others_keep_theirs(three_threads):
    found = {}

    def work(name, before_it):
        three_threads()
        before_it()
        before = {task.name for task in TASKS.iterdir()}
        torch.ones(1 << 20).add(1)
        found[name] = len({task.name for task in TASKS.iterdir()} - before)
        cores.release()

    for name, before_it in (("alone", cores.use_one), ("other", lambda: None)):
        thread = threading.Thread(target=work, args=(name, before_it))
        thread.start()
        thread.join()
    assert found == {"alone": 0, "other": 2}


def test_whoever_hands_work_to_the_engine_lets_its_helpers_go_and_so_does_an_idle_engine(
    open_hub, folders, monkeypatch
):
    released = set()
    hub = open_hub()
    hub.register("a", folders[0])
    monkeypatch.setattr(cores, "release", lambda: released.add(threading.current_thread().name.partition("_")[0]))
    hub.generate("a prompt", adapter="a", max_new_tokens=2)
    until(lambda: "adapter-hub-engine" in released)
    assert released >= {threading.current_thread().name, "adapter-hub-load", "adapter-hub-engine"}
