"""The canonical form against the same mathematics written out over a dense weight."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adapter_hub.errors import ShapeMismatch
from adapter_hub.updates import EmbeddingUpdate, LinearUpdate, Mergeable, ParameterUpdate, SiteUpdate

IN, OUT, RANK = 6, 5, 3


class Shape:
    def __init__(self, path="site", in_features=IN, out_features=OUT, parameters=None):
        self.path, self.in_features, self.out_features = path, in_features, out_features
        self.parameters = parameters or {}


def _all_parts(out: int = OUT) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "A": (RANK, IN),
        "B": (out, RANK),
        "mid_scale": (RANK,),
        "branch_scale": (out,),
        "out_scale": (out,),
        "in_scale": (IN,),
        "bias": (out,),
        "D": (out, IN),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _dense(parts, W, b0, x):
    """The equation of the form, term by term."""
    zero, one = torch.zeros, torch.ones
    y = parts.get("out_scale", one(OUT)) * ((parts.get("in_scale", one(IN)) * x) @ W.T + b0)
    if "A" in parts:
        middle = parts.get("mid_scale", one(RANK)) * (x @ parts["A"].T)
        y = y + parts.get("branch_scale", one(OUT)) * (middle @ parts["B"].T)
    return y + x @ parts.get("D", zero(OUT, IN)).T + parts.get("bias", zero(OUT))


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("A", "B"),
        ("A", "B", "mid_scale"),
        ("A", "B", "branch_scale"),
        ("A", "B", "mid_scale", "branch_scale"),
        ("out_scale",),
        ("in_scale",),
        ("bias",),
        ("D",),
        ("A", "B", "out_scale", "bias"),
        tuple(_all_parts()),
    ],
)
def test_every_combination_of_parts_means_its_equation(names):
    parts = {name: tensor for name, tensor in _all_parts().items() if name in names}
    module, x = nn.Linear(IN, OUT), torch.randn(2, 4, IN)
    update = LinearUpdate(**parts)
    update.check(Shape())
    y = update.output(module, x, module(update.base_input(x)))
    torch.testing.assert_close(y, _dense(parts, module.weight, module.bias, x))
    assert isinstance(update, SiteUpdate)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
    "names",
    [
        (),
        ("A", "B"),
        ("A", "B", "mid_scale", "branch_scale"),
        ("in_scale", "out_scale"),
        ("bias",),
        ("D", "signs", "sign_scale"),
        ("taller",),
        ("taller", "A", "B", "out_scale", "bias"),
        ("row_ids", "rows"),
        ("row_ids", "rows", "bias", "A", "B"),
        ("taller", "row_ids", "rows", "in_scale"),
        (*_all_parts(), "signs", "sign_scale", "row_ids", "rows"),
    ],
    ids="-".join,
)
def test_one_merged_linear_computes_the_same(names, has_bias):
    out = OUT + 2 if "taller" in names else OUT
    draw = torch.Generator().manual_seed(1)
    parts = {name: tensor for name, tensor in _all_parts(out).items() if name in names}
    parts |= {"D": torch.randn(out, IN, generator=draw)} if "taller" in names else {}
    others = {
        "signs": torch.randint(0, 256, (out, 1), generator=draw).to(torch.uint8),
        "sign_scale": torch.randn(out, generator=draw),
        "row_ids": torch.tensor([1, out + 1]),
        "rows": torch.randn(2, IN, generator=draw),
    }
    update = LinearUpdate(**parts, **{name: tensor for name, tensor in others.items() if name in names})
    update.check(Shape())
    module, x = nn.Linear(IN, OUT, bias=has_bias), torch.randn(2, 4, IN)
    before = {name: p.clone() for name, p in module.named_parameters()}
    merged = update.merged(module.weight.detach(), None if module.bias is None else module.bias.detach())
    expected = update.output(module, x, module(update.base_input(x)))
    torch.testing.assert_close(nn.functional.linear(x, *merged), expected)
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())
    assert isinstance(update, Mergeable)
    assert not isinstance(EmbeddingUpdate(), Mergeable)


def test_replaced_rows_stand_in_place_of_the_bases_and_may_add_outputs():
    module, x, rows = nn.Linear(IN, OUT, bias=False), torch.randn(2, IN), torch.randn(2, IN)
    update = LinearUpdate(row_ids=torch.tensor([1, OUT + 1]), rows=rows)
    update.check(Shape())
    y = update.output(module, x, module(x))
    weight = torch.cat([module.weight, torch.zeros(2, IN)]).index_copy(0, update.row_ids, rows)
    expected = (x @ weight.T).index_fill(1, torch.tensor([OUT]), float("-inf"))
    torch.testing.assert_close(y, expected)


def test_a_taller_dense_delta_adds_outputs():
    module, x, D = nn.Linear(IN, OUT), torch.randn(2, IN), torch.randn(OUT + 2, IN)
    update = LinearUpdate(D=D, out_scale=torch.zeros(OUT + 2))
    update.check(Shape())
    torch.testing.assert_close(update.output(module, x, module(x)), x @ D.T)


def test_the_result_has_the_bases_type_and_the_branch_is_rounded_to_it_before_the_sum():
    module, x = nn.Linear(IN, OUT).bfloat16(), torch.randn(2, IN).bfloat16()
    parts = _all_parts()
    update = LinearUpdate(A=parts["A"], B=parts["B"])
    y = update.output(module, x, module(x))
    assert y.dtype == torch.bfloat16
    branch = x.float() @ parts["A"].T @ parts["B"].T
    assert torch.equal(y, module(x) + branch.bfloat16())


def test_mapping_tensors_leaves_the_original_alone():
    update = LinearUpdate(**_all_parts())
    half = update.map_tensors(lambda tensor: tensor.half())
    assert {t.dtype for t in half.tensors().values()} == {torch.float16}
    assert {t.dtype for t in update.tensors().values()} == {torch.float32}


@pytest.mark.parametrize("name", list(_all_parts()))
def test_a_wrong_shape_names_the_site_and_the_part(name):
    parts = _all_parts()
    parts[name] = torch.ones(*(size + 1 for size in parts[name].shape))
    with pytest.raises(ShapeMismatch, match=r"site place: "):
        LinearUpdate(**parts).check(Shape("place"))


def test_half_a_pair_is_refused():
    with pytest.raises(ShapeMismatch, match="together"):
        LinearUpdate(A=torch.ones(RANK, IN)).check(Shape())


@pytest.mark.parametrize("zero", ["A", "B", "mid_scale", "branch_scale"])
def test_a_branch_with_a_zero_factor_changes_nothing(zero):
    parts = {name: t for name, t in _all_parts().items() if name in ("A", "B", "mid_scale", "branch_scale")}
    assert not LinearUpdate(**parts).changes_nothing()
    parts[zero] = torch.zeros_like(parts[zero])
    assert LinearUpdate(**parts).changes_nothing()
    assert not LinearUpdate(**parts, bias=torch.ones(OUT)).changes_nothing()
    assert not LinearUpdate(**parts, out_scale=torch.ones(OUT)).changes_nothing()


class ScaledEmbedding(nn.Embedding):
    """As Gemma's: the table's rows are multiplied at lookup."""

    embed_scale = torch.tensor(3.0)

    def forward(self, ids):
        return super().forward(ids) * self.embed_scale


@pytest.mark.parametrize("kind", [nn.Embedding, ScaledEmbedding])
def test_an_embedding_with_a_low_rank_change_and_replaced_rows(kind):
    module, ids = kind(10, 4), torch.tensor([[1, 9, 3], [3, 12, 0]])
    A, B, rows = torch.randn(2, 10), torch.randn(4, 2), torch.randn(2, 4)
    scale = getattr(module, "embed_scale", 1.0)
    low_rank = EmbeddingUpdate(A=A, B=B, base_vocabulary=10)
    known = ids.clamp(max=9)
    y = low_rank.output(module, known, module(known))
    torch.testing.assert_close(y, scale * (module.weight + A.T @ B.T)[known])
    replaced = EmbeddingUpdate(row_ids=torch.tensor([3, 12]), rows=rows, base_vocabulary=10)
    table = torch.cat([module.weight, torch.zeros(3, 4)]).index_copy(0, replaced.row_ids, rows)
    y = replaced.output(module, ids, module(replaced.base_input(ids)))
    torch.testing.assert_close(y, scale * table[ids])


@pytest.mark.parametrize("kind", [nn.Embedding, ScaledEmbedding])
def test_a_new_table_may_be_longer_but_not_shorter(kind):
    module, table = kind(10, 4), torch.randn(12, 4)
    update = EmbeddingUpdate(table=table, base_vocabulary=10)
    update.check(Shape(in_features=10, out_features=4))
    ids = torch.tensor([11, 2])
    y = update.output(module, ids, module(update.base_input(ids)))
    torch.testing.assert_close(y, getattr(module, "embed_scale", 1.0) * table[ids])
    with pytest.raises(ShapeMismatch, match="not take them away"):
        EmbeddingUpdate(table=table[:9]).check(Shape(in_features=10, out_features=4))


def test_replaced_parameters_run_through_the_modules_own_forward_and_leave_it_alone():
    module, x = nn.LayerNorm(4), torch.randn(3, 4)
    before = {name: p.clone() for name, p in module.named_parameters()}
    weight, bias = torch.randn(4), torch.randn(4)
    update = ParameterUpdate({"weight": weight, "bias": bias})
    update.check(Shape(parameters={"weight": (4,), "bias": (4,)}))
    y = update.output(module, x, module(x))
    torch.testing.assert_close(y, nn.functional.layer_norm(x, (4,), weight, bias))
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())
