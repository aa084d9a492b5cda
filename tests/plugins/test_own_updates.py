"""The updates that plugins bring as classes of their own: their products written out, and every kind of batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from adapter_hub.errors import NotFinite
from adapter_hub.ops import ReferencePlanner
from adapter_hub.runtime.site import AdaptedSite
from adapter_hub.testing import assert_rows_as_expected, expected, workloads
from plugins.boft import butterfly
from plugins.c3a import CirculantChange
from plugins.fourierft import SpectralChange
from plugins.hra import chained
from plugins.loha import HadamardChange
from plugins.lokr import KroneckerChange
from plugins.randlora import RandomBasesChange
from plugins.road import PairRotation
from plugins.rotations import BlockRotation, Reflections, cayley
from plugins.shira import SparseChange

IN, OUT = 24, 36


def _draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def _loha(i, o):
    w1_a, w1_b, w2_a, w2_b = _draw(o, 3), _draw(3, i), _draw(o, 3, seed=1), _draw(3, i, seed=1)
    return HadamardChange(w1_a=w1_a, w1_b=w1_b, w2_a=w2_a, w2_b=w2_b), (w1_a @ w1_b) * (w2_a @ w2_b)


def _lokr(i, o):
    w1, w2_a, w2_b = _draw(4, 6), _draw(o // 4, 2), _draw(2, i // 6)
    return KroneckerChange(w1_a=w1, w2_a=w2_a, w2_b=w2_b), torch.kron(w1, w2_a @ w2_b)


def _lokr_parts(i, o):
    w1_a, w1_b, w2 = _draw(4, 1), _draw(1, 6), _draw(o // 4, i // 6)
    return KroneckerChange(w1_a=w1_a, w1_b=w1_b, w2_a=w2), torch.kron(w1_a @ w1_b, w2)


def _randlora(i, o):
    rank, bases, least, most = 5, 4, min(i, o), max(i, o)
    small, large = _draw(rank, least), _draw(most, bases, rank)
    weights, gains = _draw(rank, bases), _draw(bases, least)
    # PEFT's own words: the columns of the one side, bases first, against the rows of the other, ranks first.
    rows = torch.cat([weights[k, b] * small[k] * gains[b] for k in range(rank) for b in range(bases)]).view(-1, least)
    product = large.flatten(1) @ rows
    update = RandomBasesChange(small=small, large=large.flatten(1), weights=weights, gains=gains)
    return update, product if o > i else product.T


def _fourier(i, o):
    places, values = torch.randperm(i * o, generator=torch.Generator().manual_seed(1))[:9], _draw(9)
    spectrum = torch.zeros(o, i)
    spectrum[places // i, places % i] = values
    rows, columns = (places // i).int(), (places % i).int()
    update = SpectralChange(spectrum=values, rows=rows, columns=columns, num_outputs=o)
    return update, torch.fft.ifft2(spectrum).real


def _c3a(i, o):
    kernel = _draw(o // 12, i // 12, 12)
    p, q = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    return CirculantChange(kernel=kernel), kernel[:, :, (q - p) % 12].transpose(1, 2).reshape(o, i) / i


def _shira(i, o):
    dense = _draw(o, i) * (_draw(o, i, seed=1) > 1)
    places = dense.nonzero().T
    return SparseChange(values=dense[tuple(places)], places=places.int(), num_outputs=o), dense


CHANGES = {
    "loha": _loha,
    "lokr": _lokr,
    "lokr-parts": _lokr_parts,
    "randlora": _randlora,
    "fourierft": _fourier,
    "c3a": _c3a,
    "shira": _shira,
}


@pytest.mark.parametrize("shape", [(IN, OUT), (OUT, IN)])
@pytest.mark.parametrize("name", CHANGES)
def test_a_product_is_that_of_the_change_written_out_for_few_tokens_and_many(name, shape):
    update, dense = CHANGES[name](*shape)
    for tokens in ((), (1,), (3, 2), (7, 40)):
        x = _draw(*tokens, shape[0])
        torch.testing.assert_close(update.product(x), x @ dense.T, atol=1e-4, rtol=1e-4)
    x = _draw(2, shape[0]).double()
    assert update.product(x).dtype == torch.float64


def _fewer(i, o):
    update, _ = _fourier(i, o)
    spectrum = torch.zeros(o, i)
    spectrum[update.rows[:5].long(), update.columns[:5].long()] = update.spectrum[:5]
    few = replace(update, spectrum=update.spectrum[:5], rows=update.rows[:5], columns=update.columns[:5])
    return few, torch.fft.ifft2(spectrum).real


# The rank of each as a pair.
PAIRS = {"loha": (_loha, 9), "lokr": (_lokr, 8), "lokr-parts": (_lokr_parts, None), "fourierft": (_fewer, 10)}


@pytest.mark.parametrize("shape", [(IN, OUT), (OUT, IN)])
@pytest.mark.parametrize("name", PAIRS)
def test_what_is_of_low_rank_is_a_pair_of_that_rank(name, shape):
    make, rank = PAIRS[name]
    update, dense = make(*shape)
    A, B = update.pair(torch.zeros(shape[1], shape[0]))
    assert len(A) == (rank if rank is not None else min(shape[1] // 4, shape[0] // 6))
    torch.testing.assert_close(B @ A, dense, atol=1e-5, rtol=1e-4)


def test_reflections_of_a_weight_are_a_pair_of_that_weight():
    update, weight = _reflections(), _draw(OUT, IN)
    A, B = update.pair(weight)
    torch.testing.assert_close(B @ A, weight @ (torch.eye(IN) - update.U @ update.T @ update.U.T) - weight)
    assert replace(update, out_scale=torch.ones(OUT)).pair(weight) is None


def test_a_pair_of_a_rank_no_less_than_the_weights_is_none():
    w1, w2 = _draw(4, 6), _draw(OUT // 4, IN // 6)
    for update in (KroneckerChange(w1_a=w1, w2_a=w2), _fourier(IN, 12)[0], _loha(8, OUT)[0]):
        assert update.pair(torch.zeros(12 if isinstance(update, SpectralChange) else OUT, IN)[:, :8]) is None


def _blocks(generator_seed=0):
    blocks = _draw(2, IN // 4, 4, 4, seed=generator_seed)
    turns = cayley((blocks - blocks.mT).flatten(0, 1)).view_as(blocks)
    order = torch.stack([butterfly(IN, 4, level) for level in (1, 0)])
    return BlockRotation(
        turns=turns, order=order.argsort(-1), back=order, out_scale=_draw(OUT), bias=_draw(OUT, seed=3)
    )


def _reflections():
    U = torch.nn.functional.normalize(_draw(IN, 3), dim=0)
    return Reflections(U=U, T=chained(U))


ROTATIONS = {"boft": _blocks, "hra": _reflections}


@pytest.mark.parametrize("name", ROTATIONS)
def test_rotations_keep_lengths_and_turn_something(name):
    update, x = ROTATIONS[name](), _draw(5, 3, IN)
    turned = update.base_input(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert (turned - x).abs().max() > 0.5


def test_blocks_that_cannot_be_rotations_are_refused():
    """A skew-symmetric matrix of odd size has no inverse, and beside values like these float32 has no I."""
    with pytest.raises(NotFinite, match="too large"):
        cayley(torch.tensor([[[0.0, 1e20, 1e20], [-1e20, 0.0, 1e20], [-1e20, -1e20, 0.0]]]))


def _all_updates():
    updates = [make(IN, OUT)[0] for make in CHANGES.values()] + [make() for make in ROTATIONS.values()]
    updates.append(PairRotation(along=_draw(3, 2, 6), across=_draw(3, 1, 6)))
    return dict(enumerate(updates, start=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_sequence_of_every_workload_gets_what_it_gets_alone(dtype):
    updates, now = _all_updates(), {}
    torch.manual_seed(0)
    module = nn.Linear(IN, OUT, dtype=dtype)
    plain = nn.Linear(IN, OUT, dtype=dtype)
    plain.load_state_dict(module.state_dict())
    site = AdaptedSite(module, lambda: now["rows"], ReferencePlanner)
    site.attach()
    for slot, update in updates.items():
        site.install(slot, update)
    for k, workload in enumerate(workloads(0, len(updates))):
        x = _draw(*workload.shape(IN), seed=k).to(dtype)
        now["rows"] = workload.rows()
        y = module(x)
        assert y.dtype == dtype
        # In bfloat16 the base's product of many rows and of few differ in their last bits.
        assert_rows_as_expected(y, expected(plain, updates, workload, x), atol=1e-4 if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize("slot", _all_updates())
def test_an_update_that_is_zero_is_known_to_change_nothing(slot):
    update = _all_updates()[slot]
    assert not update.changes_nothing()
    nothing = update.map_tensors(lambda tensor: torch.zeros_like(tensor) if tensor.is_floating_point() else tensor)
    if getattr(nothing, "out_scale", None) is not None:
        assert not nothing.changes_nothing(), "a scale of zero silences the base"
        nothing = update.map_tensors(
            lambda t: (
                t if not t.is_floating_point() else torch.ones(OUT) if t is update.out_scale else torch.zeros_like(t)
            )
        )
    assert nothing.changes_nothing()
    x, base = _draw(4, IN), _draw(4, OUT)
    assert torch.equal(nothing.base_input(x), x)
    torch.testing.assert_close(nothing.output(None, x, base), base)
