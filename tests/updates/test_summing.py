"""The weighted sum of updates: its effect is the sum of the weighted effects, whatever parts they have."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from adapter_hub.errors import ShapeMismatch, UnsupportedFeature
from adapter_hub.testing import draw_update
from adapter_hub.updates import EmbeddingUpdate, LinearUpdate, ParameterUpdate, weighted_sum
from adapter_hub.updates.linear import pack_signs

from .frozen import PATH, OneModule, drawer
from .test_dense import Turned

IN, OUT = 6, 5
PARTS = {
    "pair": ("A", "B"),
    "pair-scaled": ("A", "B", "mid_scale", "branch_scale"),
    "decomposed": ("A", "B", "out_scale", "branch_scale", "bias"),
    "outputs": ("out_scale",),
    "inputs": ("in_scale",),
    "both": ("in_scale", "out_scale", "bias"),
    "dense": ("D",),
    "pair-dense": ("A", "B", "D", "bias"),
    "nothing-but-bias": ("bias",),
}


def _update(kind, seed, dtype=torch.float32):
    draw = drawer(seed)
    if kind == "signs":
        return LinearUpdate(signs=pack_signs(draw(OUT, IN)), sign_scale=draw(OUT).abs())
    if kind == "replaced":
        return LinearUpdate(D=draw(OUT, IN), out_scale=torch.zeros(OUT), bias=draw(OUT))
    if kind == "turned":
        return Turned(draw(IN, IN), draw(OUT))
    return draw_update(PARTS[kind], draw, num_inputs=IN, num_outputs=OUT, rank=2 + seed % 3, dtype=dtype)


def _assert_sum(base, parts, x):
    summed = weighted_sum(PATH, parts, base)
    expected = sum(weight * base.effect(update, x) for weight, update in parts)
    with torch.no_grad():
        torch.testing.assert_close(base.effect(summed, x), expected, atol=2e-5, rtol=0)
    return summed


KINDS = [*PARTS, "signs", "replaced", "turned"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_of_kinds_adds_up(kind, bias):
    base, x = OneModule(nn.Linear(IN, OUT, bias=bias)), drawer(9)(4, IN)
    for other in KINDS:
        _assert_sum(base, [(0.7, _update(kind, 1)), (-0.3, _update(other, 2))], x)
    _assert_sum(base, [(0.5, _update(kind, 1))], x)


def test_all_kinds_at_once_and_16_bit_factors_stay_as_stored():
    base, x = OneModule(nn.Linear(IN, OUT)), drawer(9)(4, IN)
    _assert_sum(base, [(0.1 * k - 0.3, _update(kind, k)) for k, kind in enumerate(KINDS)], x)
    low = [(0.7, _update("pair", 1, torch.bfloat16)), (0.2, _update("pair", 2, torch.bfloat16))]
    summed = _assert_sum(base, low, x)
    assert (summed.A.dtype, summed.B.dtype, summed.mid_scale.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)


def test_the_cheapest_form_is_kept():
    base = OneModule(nn.Linear(IN, OUT))
    one, other = _update("decomposed", 1), _update("outputs", 2)
    assert weighted_sum(PATH, [(1.0, one)], base) is one
    halved = weighted_sum(PATH, [(0.5, one)], base)
    assert halved.A is one.A
    assert halved.B is one.B
    assert weighted_sum(PATH, [(0.5, one), (0.5, other)], base).D is None, "scales add up without the weight"
    signs = _update("signs", 3)
    assert weighted_sum(PATH, [(0.5, one), (2.0, signs)], base).signs is signs.signs


def _rows(ids, seed):
    return LinearUpdate(row_ids=torch.tensor(ids), rows=drawer(seed)(len(ids), IN))


def test_replaced_rows_move_from_the_bases_and_from_what_else_changes_them():
    base, x = OneModule(nn.Linear(IN, OUT, bias=False)), drawer(9)(4, IN)
    _assert_sum(base, [(0.5, _rows([1, 3], 1))], x)
    _assert_sum(base, [(0.5, _rows([1, 3], 1)), (0.4, _rows([3], 2))], x)
    for kind in ("pair-scaled", "outputs", "dense", "signs", "inputs"):
        _assert_sum(base, [(0.5, _rows([0, 3], 1)), (-0.4, _update(kind, 2))], x)


def test_replaced_rows_beside_a_bias_are_refused():
    with pytest.raises(UnsupportedFeature, match="replaces rows of a module that has a bias"):
        weighted_sum(PATH, [(0.5, _rows([1], 1))], OneModule(nn.Linear(IN, OUT)))


def test_rows_that_the_base_does_not_know_are_the_weighted_mean():
    base = OneModule(nn.Linear(IN, OUT, bias=False))
    one, two = _rows([1, OUT], 1), _rows([OUT], 2)
    summed = weighted_sum(PATH, [(0.3, one), (0.1, two)], base)
    assert summed.row_ids.tolist() == [1, OUT]
    torch.testing.assert_close(summed.rows[1], 0.75 * one.rows[1] + 0.25 * two.rows[0])
    draw = drawer(4)
    wide = [LinearUpdate(D=draw(OUT + 1, IN), out_scale=torch.zeros(OUT + 1), bias=draw(OUT + 1)) for _ in range(2)]
    summed = weighted_sum(PATH, [(0.3, wide[0]), (0.1, wide[1])], base)
    torch.testing.assert_close(summed.D[OUT], 0.75 * wide[0].D[OUT] + 0.25 * wide[1].D[OUT])
    torch.testing.assert_close(summed.bias[OUT], 0.75 * wide[0].bias[OUT] + 0.25 * wide[1].bias[OUT])
    torch.testing.assert_close(summed.D[0], 0.3 * wide[0].D[0] + 0.1 * wide[1].D[0])
    with pytest.raises(UnsupportedFeature, match="come to 0"):
        weighted_sum(PATH, [(0.3, wide[0]), (-0.3, wide[1])], base)
    with pytest.raises(ShapeMismatch, match=r"site site: the adapters give it 5 and 6 outputs"):
        weighted_sum(PATH, [(0.3, wide[0]), (0.3, _update("dense", 1))], base)


TABLES = {
    "pair": lambda draw: EmbeddingUpdate(A=draw(2, 8), B=draw(4, 2)),
    "decomposed": lambda draw: EmbeddingUpdate(A=draw(2, 8), B=draw(4, 2), out_scale=draw(4) + 3),
    "table": lambda draw: EmbeddingUpdate(table=draw(8, 4)),
    "table-pair": lambda draw: EmbeddingUpdate(table=draw(8, 4), A=draw(2, 8), B=draw(4, 2)),
    "rows": lambda draw: EmbeddingUpdate(row_ids=torch.tensor([2, 5]), rows=draw(2, 4)),
    "row": lambda draw: EmbeddingUpdate(row_ids=torch.tensor([5]), rows=draw(1, 4)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_every_pair_of_tables_adds_up(kind):
    base, ids = OneModule(nn.Embedding(8, 4)), torch.arange(8)
    for other in TABLES:
        _assert_sum(base, [(0.7, TABLES[kind](drawer(1))), (-0.3, TABLES[other](drawer(2)))], ids)
    _assert_sum(base, [(0.5, TABLES[kind](drawer(1)))], ids)


def test_a_scale_that_comes_to_nothing_makes_a_table():
    base, ids = OneModule(nn.Embedding(8, 4)), torch.arange(8)
    two = [EmbeddingUpdate(A=drawer(k)(2, 8), B=drawer(k)(4, 2), out_scale=torch.full((4,), 0.0)) for k in (1, 2)]
    assert _assert_sum(base, [(0.5, two[0]), (0.5, two[1])], ids).table is not None


def test_tables_with_new_tokens():
    base, draw = OneModule(nn.Embedding(8, 4)), drawer()
    one, two, longer = (EmbeddingUpdate(table=draw(n, 4), base_vocabulary=8) for n in (9, 9, 10))
    summed = weighted_sum(PATH, [(0.6, one), (0.2, two)], base)
    torch.testing.assert_close(summed.table[8], 0.75 * one.table[8] + 0.25 * two.table[8])
    with pytest.raises(ShapeMismatch, match="9 and 10 rows"):
        weighted_sum(PATH, [(0.6, one), (0.2, longer)], base)


def test_whole_parameters_move_from_the_bases():
    norm = nn.LayerNorm(4)
    base, draw = OneModule(norm), drawer()
    one = ParameterUpdate({"weight": draw(4), "bias": draw(4)})
    two = ParameterUpdate({"weight": draw(4)})
    x = draw(3, 4)
    _assert_sum(base, [(0.4, one), (0.9, two)], x)


def test_a_module_that_is_replaced_and_changed_has_no_sum():
    base = OneModule(nn.Linear(IN, OUT))
    with pytest.raises(UnsupportedFeature, match="replaces the module's parameters"):
        weighted_sum(PATH, [(0.4, ParameterUpdate({"bias": torch.ones(OUT)})), (0.9, _update("pair", 1))], base)


def test_the_order_of_parts_moves_no_effect():
    base, x = OneModule(nn.Linear(IN, OUT)), drawer(9)(4, IN)
    parts = [(0.2, _update("pair", 1)), (0.5, _update("decomposed", 2)), (1.0, _update("dense", 3))]
    first = base.effect(weighted_sum(PATH, parts, base), x)
    for a, b in pairwise([parts, parts[::-1]]):
        assert a != b
        torch.testing.assert_close(base.effect(weighted_sum(PATH, b, base), x), first, atol=1e-5, rtol=0)
