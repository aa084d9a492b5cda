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


@pytest.mark.skipif(
    not (sys.platform == "linux" and torch.backends.openmp.is_available()), reason="needs Linux and OpenMP"
)
def test_the_helpers_of_a_thread_end_and_come_back():
    found: list[int] = []

    def helpers(before: set[str]) -> int:
        return len({task.name for task in TASKS.iterdir()} - before)

    def work():
        torch.set_num_threads(3)  # of this thread
        before = {task.name for task in TASKS.iterdir()}
        large = torch.ones(1 << 20)
        for _ in range(2):
            large.add(1)
            found.append(helpers(before))
            cores.release()
            until(lambda: not helpers(before))
            found.append(helpers(before))
        cores.release()  # without any it does nothing

    number = torch.get_num_threads()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    torch.set_num_threads(number)  # which new threads of this process begin with
    assert found == [2, 0, 2, 0]


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
