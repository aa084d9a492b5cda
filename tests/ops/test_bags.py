"""Products by token: against the plain product, whatever the lanes, the order of tokens and those left out."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adapter_hub.ops import StackBudget, choose
from adapter_hub.ops.bags import BagProduct, Bags
from adapter_hub.runtime.rowmap import RowMap
from adapter_hub.runtime.site import AdaptedSite
from adapter_hub.updates import LinearUpdate

CPU = torch.device("cpu")


def _draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def _assignments(draw):
    """A lane for each token, or None, with at least one that has a lane."""
    lanes = draw(st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=12))
    return [*lanes, draw(st.integers(0, 5))]


def _bags(lane_of):
    used = sorted({lane for lane in lane_of if lane is not None})
    return Bags({lane: [t for t, own in enumerate(lane_of) if own == lane] for lane in used}, len(lane_of), CPU)


@settings(max_examples=150, deadline=None)
@given(lane_of=_assignments(), n=st.integers(1, 40), c=st.integers(1, 40))
def test_every_token_gets_the_product_with_its_own_lane_and_the_others_nothing(lane_of, n, c):
    bags, factors, x = _bags(lane_of), _draw(1, 6, n, c), _draw(2, len(lane_of), n)
    wanted = torch.stack(
        [x[t] @ factors[lane] if lane is not None else torch.zeros(c) for t, lane in enumerate(lane_of)]
    )
    for every in (False, True):
        y = torch.zeros(len(lane_of), c)
        bags.add(y, BagProduct(bags, factors, every)(bags.take(x)))
        torch.testing.assert_close(y, wanted, atol=1e-5, rtol=1e-5)
        assert not y[[t for t, lane in enumerate(lane_of) if lane is None]].any()


@settings(max_examples=60, deadline=None)
@given(lane_of=_assignments())
def test_parameters_of_lanes_find_their_tokens(lane_of):
    bags, scales, x = _bags(lane_of), _draw(1, 6, 4), _draw(2, len(lane_of), 4)
    seen = x.clone()
    bags.put(seen, bags.take(x) * bags.of_lane(scales))
    wanted = torch.stack([x[t] * (1 if lane is None else scales[lane]) for t, lane in enumerate(lane_of)])
    assert torch.equal(seen, wanted)


def test_gradients_pass_through_a_mixed_batch_of_decoding_rows():
    """torch's bags have none for their weights: an attribution of an adapter's answer would miss its branch."""
    module, slots = nn.Linear(24, 20), (1, 0, 2, 1, 3)
    site = AdaptedSite(module, lambda: RowMap(slots).for_batch(5, 1), choose("torch", CPU, StackBudget(10**9)))
    plain = nn.Linear(24, 20)
    plain.load_state_dict(module.state_dict())
    site.attach()
    updates = {slot: LinearUpdate(A=_draw(slot, 3, 24), B=_draw(slot + 9, 20, 3)) for slot in (1, 2, 3)}
    for slot, update in updates.items():
        site.install(slot, update)
    x = _draw(5, 5, 1, 24)
    got, wanted = x.clone().requires_grad_(), x.clone().requires_grad_()
    module(got).square().sum().backward()
    rows = [plain(wanted[k]) for k in range(5)]
    rows = [updates[slot].output(plain, wanted[k], rows[k]) if slot else rows[k] for k, slot in enumerate(slots)]
    torch.stack(rows).square().sum().backward()
    torch.testing.assert_close(got.grad, wanted.grad, atol=1e-4, rtol=1e-4)
