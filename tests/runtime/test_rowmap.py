"""The row map cannot lie: it holds itself against every batch."""

from __future__ import annotations

import threading

import pytest
import torch

from adapter_hub.errors import RowMapError
from adapter_hub.runtime.rowmap import CURRENT, RowMap


def _tokens(composition):
    return [(slot, composition.tokens_of(slot)) for slot in composition.spans]


def test_rows_of_one_slot_are_one_group():
    rows = RowMap((2, 0, 2, 1))
    assert _tokens(rows.composition(torch.zeros(4, 8))) == [(2, [0, 2]), (0, [1]), (1, [3])]
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


def test_packed_sequences_are_groups_of_tokens():
    rows = RowMap.packed((2, 0, 2, 1), (1, 3, 2, 1))
    assert _tokens(rows.composition(torch.zeros(7, 8))) == [(2, [0, 4, 5]), (0, [1, 2, 3]), (1, [6])]
    mapped = rows.for_batch(1, 7)
    for shape in ((1, 7, 8), (7, 8)):
        x = torch.randn(shape)
        entries = mapped.by_row(x)
        assert entries.shape == (7, 8)
        assert torch.equal(mapped.as_seen(entries, x), x)
    assert mapped.composition(torch.zeros(7, 8)).spans == {2: [(0, 1), (4, 6)], 0: [(1, 4)], 1: [(6, 7)]}
    assert RowMap.packed((3, 3), (2, 2)).for_batch(1, 4).everywhere == 3


def test_a_packed_map_checks_its_sums():
    rows = RowMap.packed((1, 2), (3, 4))
    for batch in ((1, 6), (1, 8), (2, 7), (7, 1)):
        with pytest.raises(RowMapError, match="sequences of 7 tokens were given"):
            rows.for_batch(*batch)
    for slots, lengths in (((1,), (1, 2)), ((1, 2), (3,)), ((1, 2), (3, 0)), ((1, 2), (3, -1))):
        with pytest.raises(RowMapError, match="slots were given for packed sequences"):
            RowMap.packed(slots, lengths)
    for shape in ((1, 6, 8), (2, 8), (7, 7, 8), (2, 7, 8)):
        with pytest.raises(RowMapError, match="does not see every token"):
            rows.for_batch(1, 7).by_row(torch.zeros(*shape))


def test_a_composition_is_one_object_for_one_batch_shape_and_counts_tokens():
    rows = RowMap((1, 2, 1))
    first = rows.for_batch(3, 5).composition(torch.zeros(3, 5, 8))
    assert first is RowMap((1, 2, 1)).for_batch(3, 5).composition(torch.zeros(3, 5, 8))
    assert first is not rows.composition(torch.zeros(3, 8))
    assert (first.num_tokens, first.counts) == (15, {1: 10, 2: 5})
    assert first.slot_of_token(torch.device("cpu")).tolist() == [1] * 5 + [2] * 5 + [1] * 5
