"""Equal tensors are kept once, for as long as anybody uses them; tensors that only look alike are not mixed up."""

from __future__ import annotations

import torch

from adapter_hub.runtime.interning import InternPool


def test_equal_tensors_are_one_and_last_as_long_as_their_uses():
    pool, tensor = InternPool(), torch.randn(8, 16)
    first, second = pool.take(tensor), pool.take(tensor.clone())
    assert first is second
    assert pool.bytes == tensor.nbytes
    pool.give_back(first)
    assert pool.bytes == tensor.nbytes
    pool.give_back(second)
    assert pool.bytes == 0


def test_a_difference_outside_of_the_sample_is_a_difference():
    pool, tensor = InternPool(), torch.zeros(8, 16)
    other = tensor.clone()
    other[3, 5] = 1.0
    assert pool.take(tensor) is not pool.take(other)
    assert pool.take(tensor.bfloat16()) is not pool.take(tensor)
    assert pool.take(tensor.reshape(16, 8)) is not pool.take(tensor)
    assert pool.take(torch.zeros(0)) is pool.take(torch.zeros(0))
