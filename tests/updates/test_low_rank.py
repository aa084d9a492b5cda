"""Low-rank pairs: what counts as one, and the nearest of a smaller rank."""

from __future__ import annotations

import pytest
import torch

from adapter_hub.updates import LinearUpdate
from adapter_hub.updates.low_rank import best_pair, factors, is_low_rank, norm, product_norm, shorter_pair

from .frozen import drawer


def test_a_pair_alone_is_low_rank_and_its_scales_fold_into_b():
    draw = drawer()
    pair = LinearUpdate(A=draw(3, 6), B=draw(5, 3), mid_scale=draw(3), branch_scale=draw(5))
    A, B = factors(pair)
    expected = torch.diag(pair.branch_scale) @ pair.B @ torch.diag(pair.mid_scale) @ pair.A
    torch.testing.assert_close(B @ A, expected)
    assert is_low_rank(pair)
    with_bias = LinearUpdate(A=A, B=B, bias=draw(5))
    assert not is_low_rank(with_bias)
    assert is_low_rank(with_bias, beside=frozenset({"bias"}))
    assert not is_low_rank(LinearUpdate(bias=draw(5)), beside=frozenset({"bias"}))


@pytest.mark.parametrize("shape", [(9, 6), (6, 9), (7, 7)])
@pytest.mark.parametrize("rank", [1, 3])
def test_both_ways_find_the_nearest_product(shape, rank):
    draw = drawer()
    A, B = draw(5, shape[1]), draw(shape[0], 5)
    change = B @ A
    U, S, V = torch.linalg.svd(change.double())
    nearest = (U[:, :rank] * S[:rank]) @ V[:rank]
    *pair, lost = shorter_pair(A, B, rank)
    assert lost == pytest.approx(float(S[rank:].norm()), rel=1e-6)
    for short_A, short_B in (best_pair(change, rank), pair):
        assert (short_A.shape, short_B.shape) == ((rank, shape[1]), (shape[0], rank))
        torch.testing.assert_close((short_B @ short_A).double(), nearest, atol=1e-5, rtol=0)
        assert norm(change - short_B @ short_A) == pytest.approx(float(S[rank:].norm()), rel=1e-4)


def test_a_rank_beyond_the_matrix_is_shortened_without_loss():
    draw = drawer()
    A, B = draw(12, 6), draw(4, 12)
    short_A, short_B, lost = shorter_pair(A, B, 12)
    assert lost == 0
    assert short_A.shape[0] == 4
    torch.testing.assert_close(short_B @ short_A, B @ A, atol=1e-5, rtol=0)
    assert product_norm(A, B) == pytest.approx(norm(B @ A), rel=1e-6)
