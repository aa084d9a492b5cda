"""Updates folded into weights, against their own outputs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapter_hub.errors import UnsupportedFeature
from adapter_hub.testing import draw_update
from adapter_hub.updates import EmbeddingUpdate, LinearUpdate, merged_table, merged_weight, weight_change
from adapter_hub.updates.linear import pack_signs
from adapter_hub.updates.site import TensorFields

from .frozen import drawer

IN, OUT, RANK = 6, 5, 3
PARTS = [
    (),
    ("A", "B"),
    ("A", "B", "mid_scale", "branch_scale"),
    ("out_scale",),
    ("in_scale", "bias"),
    ("D",),
    ("A", "B", "mid_scale", "branch_scale", "out_scale", "in_scale", "bias", "D"),
]


def _update(parts, dtype=torch.float32, seed=0):
    return draw_update(parts, drawer(seed), num_inputs=IN, num_outputs=OUT, rank=RANK, dtype=dtype)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parts", PARTS)
def test_a_merged_weight_multiplies_as_the_update_does(parts, dtype, bias):
    module, update, x = nn.Linear(IN, OUT, bias=bias), _update(parts, dtype), drawer(3)(4, IN)
    with torch.no_grad():
        weight, own = merged_weight(update, module.weight, module.bias)
        expected = update.output(module, x, module(update.base_input(x)))
    assert weight.dtype == torch.float32
    torch.testing.assert_close(F.linear(x, weight, own), expected, atol=1e-5, rtol=0)


def test_signs_replaced_rows_and_added_outputs_are_folded_in():
    module, draw = nn.Linear(IN, OUT), drawer()
    signs, scale = pack_signs(draw(OUT, IN)), draw(OUT).abs()
    rows = LinearUpdate(signs=signs, sign_scale=scale, row_ids=torch.tensor([1, OUT]), rows=draw(2, IN))
    whole = LinearUpdate(D=draw(OUT + 2, IN), out_scale=torch.zeros(OUT + 2), bias=draw(OUT + 2))
    x = draw(4, IN)
    for update, outputs in ((rows, OUT + 1), (whole, OUT + 2)):
        with torch.no_grad():
            weight, bias = merged_weight(update, module.weight, module.bias)
            torch.testing.assert_close(
                F.linear(x, weight, bias), update.output(module, x, module(x)), atol=1e-5, rtol=0
            )
        assert len(weight) == outputs


def test_rows_that_have_no_values_cannot_be_folded_in():
    update = LinearUpdate(row_ids=torch.tensor([OUT + 1]), rows=torch.ones(1, IN))
    with pytest.raises(UnsupportedFeature, match="head: the adapter adds 1 rows beyond 5, up to row 6"):
        merged_weight(update, torch.zeros(OUT, IN), path="head")


def test_added_outputs_are_no_change_of_the_base():
    update = LinearUpdate(D=torch.ones(OUT + 1, IN))
    with pytest.raises(UnsupportedFeature, match="head: it has 6 outputs under the adapter and 5"):
        weight_change(update, torch.zeros(OUT, IN), path="head")


@dataclass(frozen=True, eq=False)
class Turned(TensorFields):
    """A class of a plugin: y = base(R x) + shift."""

    R: Tensor
    shift: Tensor

    def changes_nothing(self):
        return False

    def base_input(self, x):
        return x @ self.R.T

    def output(self, module, x, base_output):
        return base_output + self.shift


class Squared(Turned):
    def output(self, module, x, base_output):
        return base_output * base_output


class Elsewhere(Turned):
    """Acts where something beside its input says so, and says nothing here."""

    def base_input(self, x):
        return x

    def output(self, module, x, base_output):
        return base_output


@pytest.mark.parametrize("bias", [True, False])
def test_an_update_of_another_class_is_read_off_from_what_it_does(bias):
    draw = drawer()
    module, update, x = nn.Linear(IN, OUT, bias=bias), Turned(draw(IN, IN), draw(OUT)), draw(4, IN)
    with torch.no_grad():
        weight, own = merged_weight(update, module.weight, module.bias, module=module)
        torch.testing.assert_close(
            F.linear(x, weight, own), update.output(module, x, module(update.base_input(x))), atol=1e-5, rtol=0
        )


class Telling(Squared):
    """Says itself what it comes to, however it gets there."""

    def merged(self, weight, bias):
        return weight @ self.R, self.shift


def test_an_update_that_says_what_it_comes_to_is_believed():
    draw = drawer()
    update, W = Telling(draw(IN, IN), draw(OUT)), draw(OUT, IN)
    weight, bias = merged_weight(update, W.bfloat16(), draw(OUT))
    torch.testing.assert_close(weight, W.bfloat16().float() @ update.R)
    assert bias is update.shift


@pytest.mark.parametrize(("kind", "said"), [(Squared, "no affine function"), (Elsewhere, "depends on more")])
def test_an_update_that_is_no_weight_is_refused(kind, said):
    draw = drawer()
    with pytest.raises(UnsupportedFeature, match=rf"site q: {kind.__name__} cannot be folded .* {said}"):
        merged_weight(kind(draw(IN, IN), draw(OUT)), draw(OUT, IN), path="q")


@pytest.mark.parametrize(
    "update",
    [
        EmbeddingUpdate(A=drawer()(2, 8), B=drawer(1)(4, 2)),
        EmbeddingUpdate(A=drawer()(2, 8), B=drawer(1)(4, 2), out_scale=drawer(2)(4)),
        EmbeddingUpdate(table=drawer()(10, 4), base_vocabulary=8),
        EmbeddingUpdate(row_ids=torch.tensor([2, 8]), rows=drawer()(2, 4), base_vocabulary=8),
    ],
)
def test_a_merged_table_looks_up_as_the_update_does(update):
    module = nn.Embedding(8, 4)
    with torch.no_grad():
        table = merged_table(update, module.weight)
        ids = torch.arange(len(table))
        expected = update.output(module, ids, module(update.base_input(ids)))
    torch.testing.assert_close(table, expected)
