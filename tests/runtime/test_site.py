"""The adapted site: any module, any mix of rows, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adapter_hub.runtime.rowmap import RowMap
from adapter_hub.runtime.site import AdaptedSite
from adapter_hub.updates import LinearUpdate, ParameterUpdate

IN, OUT = 6, 5


@pytest.fixture
def rows():
    return {"now": RowMap(everywhere=0)}


def _site(module, rows):
    site = AdaptedSite(module, lambda: rows["now"])
    site.attach()
    return site


def _updates():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    return {
        1: LinearUpdate(A=draw(2, IN), B=draw(OUT, 2)),
        2: LinearUpdate(in_scale=draw(IN), out_scale=draw(OUT)),
        3: LinearUpdate(D=draw(OUT + 2, IN), out_scale=torch.zeros(OUT + 2)),
        4: LinearUpdate(row_ids=torch.tensor([OUT]), rows=draw(1, IN)),
    }


@pytest.mark.parametrize("shape", [(6, 3, IN), (6, IN), (18, IN)])
def test_every_row_of_a_mix_is_what_it_is_alone(shape, rows):
    module, slots = nn.Linear(IN, OUT), (1, 0, 2, 3, 4, 2)
    site = _site(module, rows)
    site.updates.update(_updates())
    x = torch.randn(shape)
    tokens = 3 if shape != (6, IN) else 1
    rows["now"] = RowMap(slots).for_batch(6, tokens)
    mixed = module(x)
    assert mixed.shape == (*shape[:-1], OUT + 2)
    by_row, inputs = mixed.reshape(6, tokens, -1), x.reshape(6, tokens, IN)
    for k, slot in enumerate(slots):
        rows["now"] = RowMap(everywhere=slot)
        alone = module(inputs[k])
        torch.testing.assert_close(by_row[k, :, : alone.shape[-1]], alone)
        assert torch.isneginf(by_row[k, :, alone.shape[-1] :]).all(), "outputs a row does not have cannot be picked"


def test_rows_without_an_update_here_cost_one_call_of_the_base(rows):
    module, calls = nn.Linear(IN, OUT), []
    module.register_forward_hook(lambda *_: calls.append(1))
    site = _site(module, rows)
    x = torch.randn(2, 3, IN)
    expected = site.base(x)
    rows["now"] = RowMap((0, 7)).for_batch(2, 3)
    assert torch.equal(module(x), expected)
    assert len(calls) == 1, "the module's own hooks still run, once"


def test_the_base_is_never_written_by_a_mixed_batch(rows):
    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(IN))

        def forward(self, x):
            return x * self.weight

    module = Same()
    site = _site(module, rows)
    site.updates[1] = ParameterUpdate({"weight": torch.full((IN,), 2.0)})
    x = torch.randn(2, 3, IN)
    before = x.clone()
    rows["now"] = RowMap((0, 1)).for_batch(2, 3)
    y = module(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(y, torch.stack([x[0], 2 * x[1]]))
    assert torch.equal(module.weight, torch.ones(IN))


class Routed(nn.Module):
    """Takes an input, routing by token and something that is no row's, and gives two tensors, flat."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(OUT, IN))
        self.calls = []

    def forward(self, x, routing, offset):
        self.calls.append(x.shape[:-1].numel())
        y = nn.functional.linear(x, self.weight) + offset
        return (y * routing).flatten(0, -2), routing.flatten(0, -2)


class TwiceTheWeight:
    def forward(self, module, x, routing, offset):
        y, routed = Routed.forward(module, x, routing, offset)
        return 2 * y, routed + 1


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_a_module_of_several_inputs_runs_once_for_the_bases_rows_and_once_for_each_update(packed, flat, rows):
    module, slots = Routed(), (0, 1, 2, 1, 7)
    site = _site(module, rows)
    for slot in (1, 2):
        site.install(slot, TwiceTheWeight())
    leading = (1, 15) if packed else (5, 3)
    x, routing, offset = torch.randn(*leading, IN), torch.rand(*leading, 1), torch.randn(OUT)
    inputs = (x.flatten(0, 1), routing.flatten(0, 1)) if flat else (x, routing)
    rows["now"] = RowMap(everywhere=0)
    y, routed = (part.clone() for part in module(*inputs, offset))
    module.calls.clear()
    rows["now"] = (RowMap.packed(slots, (3,) * 5) if packed else RowMap(slots)).for_batch(*leading)
    found, places = module(*inputs, offset)
    assert sorted(module.calls) == [3, 6, 6]
    own = torch.tensor([slot in (1, 2) for slot in slots]).repeat_interleave(3).unsqueeze(-1)
    torch.testing.assert_close(found, torch.where(own, 2 * y, y))
    torch.testing.assert_close(places, torch.where(own, routed + 1, routed))
    rows["now"] = RowMap(everywhere=1)
    torch.testing.assert_close(module(*inputs, offset)[0], 2 * y)
    site.clear(1)
    assert torch.equal(module(*inputs, offset)[0], y)


def test_whole_parameters_run_on_their_own_rows_alone(rows):
    module = nn.LayerNorm(IN)
    site = _site(module, rows)
    weight, bias = torch.randn(IN), torch.randn(IN)
    site.install(1, ParameterUpdate({"weight": weight, "bias": bias}))
    x = torch.randn(3, 2, IN)
    expected = nn.functional.layer_norm(x, (IN,))
    expected[1] = expected[1] * weight + bias
    rows["now"] = RowMap((0, 1, 7)).for_batch(3, 2)
    torch.testing.assert_close(module(x), expected)


def test_detaching_gives_the_module_its_own_forward_back(rows):
    plain = nn.Linear(IN, OUT)
    _site(plain, rows).detach()
    assert "forward" not in plain.__dict__
    covered = nn.Linear(IN, OUT)
    covered.forward = other = lambda x: nn.Linear.forward(covered, x) + 1
    _site(covered, rows).detach()
    assert covered.forward is other, "what another library had put there returns"
