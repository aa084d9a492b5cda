"""One-bit changes in the form that computes fastest: the same numbers, within a budget, gone with their adapter."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from adapter_hub.ops import StackBudget, choose
from adapter_hub.ops.unpacked import UnpackedSigns, unpacked
from adapter_hub.runtime.rowmap import RowMap
from adapter_hub.runtime.site import AdaptedSite
from adapter_hub.testing import draw_update


def _update(num_inputs, num_outputs, seed=0, parts=("signs",)):
    generator = torch.Generator().manual_seed(seed)
    return draw_update(
        parts,
        lambda *shape: torch.randn(shape, generator=generator),
        num_inputs=num_inputs,
        num_outputs=num_outputs,
        rank=3,
        dtype=torch.float32,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 96), (64, 33), (61, 32), (7, 5), (1, 1)])
@pytest.mark.parametrize("lead", [(1,), (3, 1), (2, 9)])
def test_the_product_is_that_of_the_packed_signs(dtype, shape, lead):
    packed = _update(*shape)
    fast = unpacked(packed, StackBudget(10**9))
    assert type(fast) is UnpackedSigns
    x = torch.randn(*lead, shape[0], generator=torch.Generator().manual_seed(1)).to(dtype)
    wanted = packed.sign_product(x, packed.signs)
    got = fast.sign_product(x, fast.signs)
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    torch.testing.assert_close(got, wanted, rtol=2**-8 if dtype.itemsize == 2 else 1e-5, atol=1e-5)


def test_gradients_pass_in_16_bit_too():
    packed = _update(64, 32)
    fast = unpacked(packed, StackBudget(10**9))
    x = torch.randn(3, 64, dtype=torch.bfloat16, requires_grad=True)
    fast.sign_product(x, fast.signs).sum().backward()
    S = packed.sign_product(torch.eye(64), packed.signs).T
    torch.testing.assert_close(x.grad[0].float(), S.sum(0), rtol=2**-7, atol=1e-5)


def test_bytes_are_counted_as_long_as_the_adapter_is_there_and_never_beyond_the_budget():
    budget, module = StackBudget(64 * 96 + 10), nn.Linear(64, 96)
    rows = {"now": RowMap(everywhere=1)}
    site = AdaptedSite(module, lambda: rows["now"], choose("torch", torch.device("cpu"), budget))
    site.attach()
    for slot in (1, 2):
        site.install(slot, _update(64, 96, seed=slot))
    assert budget.used == 0, "nobody has asked yet"
    x = torch.randn(2, 1, 64)
    with torch.inference_mode():
        module(x)
        assert budget.used == 64 * 96
        rows["now"] = RowMap((2, 1)).for_batch(2, 1)
        mixed = module(x)
        assert budget.used == 64 * 96, "the second finds no room and stays packed"
        for row, slot in enumerate((2, 1)):
            alone = site.updates[slot].output(module, x[row], site.base(x[row]))
            torch.testing.assert_close(mixed[row], alone, atol=1e-5, rtol=1e-5)
    site.clear(1)
    gc.collect()
    assert budget.used == 0


def test_other_updates_are_left_as_they_are():
    update = _update(64, 96, parts=("A", "B", "D"))
    assert unpacked(update, StackBudget(10**9)) is update
