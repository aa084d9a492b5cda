"""The row map cannot lie: it holds itself against every batch."""

from __future__ import annotations

import threading

import pytest
import torch

from adapter_hub.errors import RowMapError
from adapter_hub.runtime.rowmap import CURRENT, RowMap


def test_rows_of_one_slot_are_one_group():
    rows = RowMap((2, 0, 2, 1))
    assert [(slot, index.tolist()) for slot, index in rows.groups] == [(2, [0, 2]), (0, [1]), (1, [3])]
    assert rows.everywhere is None
    assert RowMap((3, 3)).everywhere == 3


def test_a_batch_of_another_size_is_refused():
    assert RowMap((1, 2)).for_batch(2, 7).tokens == 7
    with pytest.raises(RowMapError, match="2 adapters were given for a batch of 4 rows"):
        RowMap((1, 2)).for_batch(4, 7)
    with pytest.raises(RowMapError):
        RowMap((1, 1)).for_batch(1, 7)
    assert RowMap(everywhere=5).for_batch(4, 7).everywhere == 5


def test_tokens_in_row_order_are_split_by_row_and_nothing_else_is():
    rows = RowMap((1, 2)).for_batch(2, 3)
    assert rows.by_row(torch.zeros(2, 3, 8)).shape == (2, 3, 8)
    assert rows.by_row(torch.zeros(6, 8)).shape == (2, 3, 8)
    for shape in ((4, 8), (3, 3, 8), (12, 8)):
        with pytest.raises(RowMapError, match="regroups its tokens"):
            rows.by_row(torch.zeros(*shape))


def test_threads_do_not_see_each_others_rows():
    CURRENT.set(RowMap((1, 2)))
    seen = []
    thread = threading.Thread(target=lambda: seen.append(CURRENT.get()))
    thread.start()
    thread.join()
    CURRENT.set(None)
    assert seen == [None]
