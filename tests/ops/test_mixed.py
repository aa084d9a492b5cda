"""Every path against the oracle: each sequence alone, under its update's own ``output``."""

from __future__ import annotations

import itertools
from importlib.util import find_spec

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adapter_hub.ops import ReferencePlanner, StackBudget, choose, stacked
from adapter_hub.runtime.site import AdaptedSite
from adapter_hub.testing import Workload, assert_rows_as_expected, draw_update, expected, popular_slots, workloads
from adapter_hub.updates import LinearUpdate

IN, OUT = 24, 20
# Where there is a GPU the kernels run on it, in test_cuda.py; their interpreter knows no types of a GPU's tensors.
PATHS = ["reference", "torch", *(["triton"] if find_spec("triton") and not torch.cuda.is_available() else [])]
BRANCH = ("A", "B")
PARTS = [
    BRANCH,
    (*BRANCH, "mid_scale"),
    (*BRANCH, "branch_scale"),
    (*BRANCH, "mid_scale", "branch_scale"),
    (*BRANCH, "out_scale", "bias"),
    ("out_scale",),
    ("in_scale",),
    ("bias",),
    ("in_scale", "out_scale", "bias"),
    (*BRANCH, "mid_scale", "branch_scale", "in_scale", "out_scale", "bias"),
    ("D",),
    (*BRANCH, "D", "bias"),
    ("rows",),
    ("signs",),
    (*BRANCH, "signs", "bias"),
]


class Gate:
    """A class of a plugin: no part of the canonical form."""

    def __init__(self, gate):
        self.gate = gate

    def tensors(self):
        return {"gate": self.gate}

    def base_input(self, x):
        return x

    def output(self, module, x, base_output):
        return base_output * torch.sigmoid(x @ self.gate.to(x.dtype)).unsqueeze(-1)


def _draw(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator)


def _update(parts, seed, rank=3, dtype=torch.float32):
    return draw_update(parts, _draw(seed), num_inputs=IN, num_outputs=OUT, rank=rank, dtype=dtype)


def _site(path, updates, budget=10**9, dtype=torch.float32, bias=True, stack_dtype=torch.float32):
    torch.manual_seed(0)
    module, now = nn.Linear(IN, OUT, bias=bias, dtype=dtype), {}
    plain = nn.Linear(IN, OUT, bias=bias, dtype=dtype)
    plain.load_state_dict(module.state_dict())
    budget = StackBudget(budget, stack_dtype)
    site = AdaptedSite(module, lambda: now["rows"], choose(path, torch.device("cpu"), budget))
    site.attach()
    for slot, update in updates.items():
        site.install(slot, update)
    site.budget, site.now, site.plain = budget, now, plain
    return site


def _hold(site, workload, seed=0, dtype=torch.float32, atol=1e-4):
    x = _draw(seed)(*workload.shape(IN)).to(dtype)
    before = x.clone()
    site.now["rows"] = workload.rows()
    with torch.inference_mode():
        y = site.module(x)
        assert_rows_as_expected(y, expected(site.plain, site.updates, workload, x), atol=atol)
    assert torch.equal(x, before)
    assert y.shape[:2] == x.shape[:2]


def _some(path, all_of_them):
    """All workloads, or a few spread over them for the interpreter, which takes a second for each."""
    return itertools.islice(all_of_them, 7, None, 29) if path == "triton" else all_of_them


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("parts", PARTS, ids="-".join)
def test_each_part_in_every_workload(parts, path):
    site = _site(path, {slot: _update(parts, slot) for slot in range(1, 9)})
    for workload in _some(path, workloads(1, 8, sizes=(1, 2, 5, 13))):
        _hold(site, workload)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_parts_ranks_types_and_classes_in_one_batch(dtype, path):
    ranks, types = itertools.cycle((1, 4, 7, 16)), itertools.cycle((torch.float32, torch.bfloat16))
    updates = {k: _update(parts, k, next(ranks), next(types)) for k, parts in enumerate(PARTS * 2, start=1)}
    updates[len(updates) + 1] = Gate(_draw(99)(IN))
    site = _site(path, updates, dtype=dtype)
    for workload in _some(path, workloads(2, len(updates) + 2, sizes=(3, 32))):
        _hold(site, workload, dtype=dtype, atol=1e-4 if dtype == torch.float32 else 3e-2)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_mix_of_any_parts(data):
    kinds = st.tuples(st.sampled_from(PARTS), st.sampled_from((1, 2, 3, 8)))
    drawn = data.draw(st.lists(kinds, min_size=1, max_size=6))
    site = _site("torch", {k: _update(parts, k, rank) for k, (parts, rank) in enumerate(drawn, start=1)})
    sizes = data.draw(st.lists(st.integers(1, 11), min_size=1, max_size=2))
    for workload in workloads(data.draw(st.integers(0, 1000)), len(drawn) + 1, sizes):
        _hold(site, workload)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, 3e-2), (torch.float32, 1e-4)])
def test_stacks_of_16_bit_are_within_its_rounding_and_leave_a_base_of_32_alone(dtype, atol):
    updates = {k: _update(parts, k, 4) for k, parts in enumerate(PARTS * 2, start=1)}
    sites = [_site("torch", updates, dtype=dtype, stack_dtype=kept) for kept in (torch.bfloat16, torch.float32)]
    for workload in workloads(8, len(updates) + 2, sizes=(3, 13, 32)):
        for site in sites:
            _hold(site, workload, dtype=dtype, atol=atol)
    narrow, wide = (site.budget.used for site in sites)
    assert narrow < wide if dtype == torch.bfloat16 else narrow == wide


@pytest.mark.parametrize("length", [stacked.MANY - 1, stacked.MANY])
@pytest.mark.parametrize("can", [True, False])
def test_long_lanes_are_multiplied_in_16_bit_where_the_processor_can(can, length, monkeypatch):
    monkeypatch.setattr(stacked, "multiplies", lambda dtype, _: can and dtype == torch.bfloat16)
    types, bmm = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda x, factors, **out: types.append(x.dtype) or bmm(x, factors, **out))
    A, B = _draw(0)(5, IN), _draw(1)(OUT, 5)
    kinds = [parts for parts in PARTS if "A" in parts and not {"D", "signs"} & set(parts)]
    updates = [_update(parts, k, 5) for k, parts in enumerate(kinds * 2)]
    updates += [LinearUpdate(A=A, B=_draw(k)(OUT, 5)) for k in (2, 3)]
    updates += [LinearUpdate(A=_draw(k)(5, IN), B=B) for k in (4, 5)]
    slots = tuple(range(len(updates) + 1))
    for dtype, bar in ((torch.bfloat16, 1e-2), (torch.float32, 1e-5)):
        site = _site("torch", dict(enumerate(updates, start=1)), dtype=dtype, stack_dtype=torch.bfloat16)
        for packed in (True, False):
            types.clear()
            workload = Workload(slots, (length,) * len(slots), packed)
            site.now["rows"], x = workload.rows(), _draw(0)(*workload.shape(IN)).to(dtype)
            with torch.inference_mode():
                y = site.module(x).view(len(slots), length, OUT).float()
                rows = torch.stack(expected(site.plain, site.updates, workload, x)).float()
            assert ((y - rows).norm(dim=(1, 2)) < bar * rows.norm(dim=(1, 2))).all()
            assert set(types) == {dtype if can and length >= stacked.MANY else torch.float32}


def test_rows_and_packed_tokens_of_the_same_sequences_keep_plans_of_their_own():
    site = _site("torch", {k: _update(("A", "B"), k, 1) for k in range(1, 7)})
    for workload in workloads(376, 7, [6, 2]):
        _hold(site, workload)


def test_bits_are_those_of_the_oracle_where_no_product_is_involved():
    """Scales and bias: the same roundings in the same order, in bfloat16 too."""
    for dtypes in ((torch.float32,), (torch.bfloat16,)):
        updates = {k: _update(("in_scale", "out_scale", "bias"), k, dtype=dtypes[0]) for k in (1, 2, 3)}
        site = _site("torch", updates, dtype=torch.bfloat16)
        for workload in workloads(3, 3, sizes=(7,)):
            x = _draw(4)(*workload.shape(IN)).bfloat16()
            site.now["rows"] = workload.rows()
            with torch.inference_mode():
                fast = site.module(x)
                oracle = AdaptedSite(site.plain, site._rows, ReferencePlanner)
                oracle.updates.update(updates)
                assert torch.equal(fast, oracle(x))


def test_interned_factors_are_multiplied_once_and_never_copied():
    A, B = _draw(0)(5, IN), _draw(1)(OUT, 5)
    vectors = [LinearUpdate(A=A, B=B, mid_scale=_draw(k)(5), branch_scale=_draw(k)(OUT)) for k in range(2, 10)]
    own_B = [LinearUpdate(A=A, B=_draw(k)(OUT, 5)) for k in range(10, 14)]
    own_A = [LinearUpdate(A=_draw(k)(5, IN), B=B) for k in range(14, 18)]
    site = _site("torch", dict(enumerate([*vectors, *own_B, *own_A], start=1)))
    for workload in workloads(5, 17, sizes=(9, 32)):
        _hold(site, workload)
    plans = [plan for plan in site._planner._plans.values() if plan is not None]
    assert any(plan.parts for plan in plans)
    for plan in plans:
        for part in plan.parts:
            held = {t.untyped_storage().data_ptr() for t in part.stack.shared.values()}
            assert held <= {A.untyped_storage().data_ptr(), B.untyped_storage().data_ptr()}
            if "mid_scale" in part.stack.parts:
                assert part.stack.shared.keys() == {"A", "B"}


def test_adapters_come_and_go_between_batches():
    """Hundreds of random steps: installs, clears and forwards; every answer right, every byte given back.

    Three sites see each batch, as in a model: some changes concern all of them, some one.
    """
    generator = torch.Generator().manual_seed(6)
    sites = [_site("torch", {1: _update(BRANCH, 1)}) for _ in range(3)]
    seeds = itertools.count(2)

    def pick(count):
        return int(torch.randint(count, (1,), generator=generator))

    for _ in range(250):
        slot, parts, rank = 1 + pick(9), PARTS[pick(len(PARTS))], 1 + pick(4)
        keeps = pick(3)
        for site in sites if pick(3) else [sites[pick(3)]]:
            if slot in site.updates:
                site.clear(slot)
            if keeps:
                site.install(slot, _update(parts, next(seeds), rank))
        slots = popular_slots("uniform", 1 + pick(9), 9, generator)
        for workload in itertools.islice(workloads(pick(1000), 9, (len(slots),)), 2):
            for site in sites:
                _hold(site, workload)
    for site in sites:
        for slot in list(site.updates):
            site.clear(slot)
        assert site.budget.used == 0


def test_a_changing_batch_copies_what_is_new_and_keeps_within_its_budget():
    updates = {slot: _update(BRANCH, slot) for slot in range(1, 41)}
    each = sum(t.nbytes for t in updates[1].tensors().values())
    site = _site("torch", updates, budget=24 * each)
    generator = torch.Generator().manual_seed(0)
    batch = list(range(1, 9))
    for k in range(60):
        batch[k % 8] = 9 + int(torch.randint(32, (1,), generator=generator))
        _hold(site, Workload(tuple(batch), (1,) * 8, packed=bool(k % 2)))
        assert site.budget.used <= 24 * each
    narrow = _site("torch", updates, budget=3 * each)
    _hold(narrow, Workload(tuple(range(1, 9)), (1,) * 8, packed=True))
    assert narrow.budget.used == 0, "what does not fit is computed group by group"


def test_a_cleared_adapter_is_kept_by_nobody():
    import gc
    import weakref

    updates = {slot: _update(BRANCH if slot < 4 else ("D",), slot) for slot in range(1, 6)}
    site = _site("torch", updates)
    for workload in workloads(7, 5, sizes=(8,)):
        _hold(site, workload)
    watched = [weakref.ref(updates.pop(slot).tensors()[name]) for slot, name in ((2, "A"), (5, "D"))]
    for slot in (2, 5):
        site.clear(slot)
    gc.collect()
    assert [ref() for ref in watched] == [None, None]
