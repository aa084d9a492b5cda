"""Uses are counted at once, written later, and not lost when a write fails."""

from __future__ import annotations

import logging
import threading
import time

from adapter_hub.errors import RegistryError
from adapter_hub.store.usage import Usage

from ..until import SECONDS


def test_uses_are_written_together_some_time_after_the_first_and_at_the_end(monkeypatch):
    written, once, due = [], threading.Event(), threading.Event()

    class Held(threading.Timer):
        """Its time does not pass before the test says so."""

        def run(self):
            assert due.wait(SECONDS)
            super().run()

    monkeypatch.setattr(threading, "Timer", Held)

    def write(uses):
        written.append({key: count for key, (count, _) in uses.items()})
        once.set()

    usage = Usage(write, interval=0.01)
    begun = time.time()
    usage.count(["a@1", "b@1", "a@1"])
    usage.count(["a@1"])
    assert written == []
    count, last = usage.pending("a@1")
    assert count == 3
    assert begun <= last <= time.time()
    assert usage.pending("c@1") is None
    due.set()
    assert once.wait(SECONDS)
    usage.count(["c@1"])
    usage.close()
    assert written == [{"a@1": 3, "b@1": 1}, {"c@1": 1}]
    assert usage.pending("a@1") is None


def test_a_write_that_fails_is_tried_again_with_what_came_since(caplog):
    written, broken = [], True

    def write(uses):
        if broken:
            raise RegistryError("the disk is full.")
        written.append({key: count for key, (count, _) in uses.items()})

    usage = Usage(write, interval=60)
    usage.count(["a@1", "b@1"])
    with caplog.at_level(logging.WARNING):
        usage.flush()
    assert "uses of 2 adapters could not be written: the disk is full." in caplog.text
    usage.count(["a@1"])
    assert usage.pending("a@1")[0] == 2
    broken = False
    usage.close()
    assert written == [{"a@1": 2, "b@1": 1}]


def test_counts_from_many_threads_add_up():
    written: dict[str, int] = {}

    def write(uses):
        for key, (count, _) in uses.items():
            written[key] = written.get(key, 0) + count

    usage = Usage(write, interval=0.001)

    def work():
        for _ in range(500):
            usage.count(["a@1"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    usage.close()
    assert written == {"a@1": 2000}
