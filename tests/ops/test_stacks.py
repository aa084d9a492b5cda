"""Stacks and kinds: what is copied, when, where it lies, and that it goes."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch

from adapter_hub.ops import Composition, StackBudget
from adapter_hub.ops.kinds import Kinds
from adapter_hub.ops.pages import ALIGNED, HUGE, allocate
from adapter_hub.ops.planner import StackingPlanner
from adapter_hub.ops.stacked import BagPart, LanePart
from adapter_hub.updates import LinearUpdate

IN, OUT, RANK = 24, 20, 4


def _update(seed, rank=RANK, **parts):
    generator = torch.Generator().manual_seed(seed)
    A, B = torch.randn(rank, IN, generator=generator), torch.randn(OUT, rank, generator=generator)
    return LinearUpdate(**{"A": A, "B": B, **parts})


@pytest.fixture
def site():
    """A planner over slots 1 to 8, all of one kind, and what gives it a decoding batch of some slots."""
    return _planner()


def _planner():
    updates = {slot: _update(slot) for slot in range(1, 9)}
    planner = StackingPlanner(updates, StackBudget(10**9))
    for slot in updates:
        planner.changed(slot)

    def batch(*slots):
        return planner.plan(Composition.of(slots, 1), torch.zeros(len(slots), 1, IN))

    def change(slot, update):
        gone = updates.pop(slot, None)
        if gone is not None:
            planner.changed(slot, gone)
        if update is not None:
            updates[slot] = update
            planner.changed(slot)

    planner.batch, planner.change = batch, change
    planner.stack = lambda: batch(*range(1, 9)).parts[0].stack
    return planner


def test_a_batch_of_adapters_that_are_stacked_already_copies_nothing(site):
    (whole,) = site.batch(*range(1, 9)).parts
    taken = site.budget.used
    for slots in ((8, 1), (3, 0, 5, 5), (2, 7, 4)):
        (part,) = site.batch(*slots).parts
        assert part.stack is whole.stack
    assert site.budget.used == taken


@pytest.mark.parametrize(
    ("lengths", "kind", "served"),
    [
        ((1,) * 8, BagPart, 8),  # decoding
        ((1,) * 7 + (40,), BagPart, 8),  # a chunk of a prompt beside it
        ((1,) * 5 + (40,) * 3, BagPart, 8),  # several: no width of lanes would take all of them in
        ((1,) * 6 + (20, 400), BagPart, 7),  # the long one is worth calls of its own
        ((40,) * 8, LanePart, 8),  # prompts of like lengths
        ((400,) * 7 + (1,), LanePart, 8),
    ],
)
def test_slots_are_left_alone_only_where_they_have_many_tokens(site, lengths, kind, served):
    plan = site.plan(Composition.of(tuple(range(1, 9)), lengths), torch.zeros(sum(lengths), IN))
    (part,) = plan.parts
    assert type(part) is kind
    assert len(part.slots) == served
    assert len(plan.groups.groups) == 8 - served


def test_sites_that_are_laid_out_alike_work_a_batch_out_once(site, monkeypatch):
    other, worked_out, work_out = _planner(), [], StackingPlanner._work_out
    monkeypatch.setattr(StackingPlanner, "_work_out", lambda at, *of: worked_out.append(at) or work_out(at, *of))
    for planner in (site, other):
        planner.batch(*range(1, 9))  # what fills its stack is its own business
    plans = [planner.batch(3, 0, 5, 1) for planner in (site, other)]
    assert worked_out == [site, other, site]
    assert plans[0].parts[0].tokens is plans[1].parts[0].tokens
    assert [plan.parts[0].stack.lanes for plan in plans] == [site.stack().lanes, other.stack().lanes]
    assert plans[0].parts[0].stack is not plans[1].parts[0].stack
    other.change(3, LinearUpdate(bias=torch.ones(OUT)))
    plans = [planner.batch(1, 3, 5) for planner in (site, other)]
    assert worked_out == [site, other, site, site, other], "they are laid out alike no more"
    assert [(len(plan.parts[0].slots), len(plan.groups.groups)) for plan in plans] == [(3, 0), (2, 1)]
    other.change(3, None)
    other.change(5, None)
    other.change(1, None)
    assert other.batch(1, 3, 5) is None
    assert site.batch(1, 3, 5) is plans[0]


def test_a_site_that_lacked_room_does_not_speak_for_others(site):
    without = StackingPlanner(site.updates, StackBudget(0))
    for slot in site.updates:
        without.changed(slot)
    composition = Composition.of((4, 2), 1)
    plans = [planner.plan(composition, torch.zeros(2, 1, IN)) for planner in (without, site, without)]
    assert [len(plan.parts) for plan in plans] == [0, 1, 0]


def test_a_new_adapter_takes_the_lane_of_the_one_that_left(site):
    (before,) = site.batch(*range(1, 9)).parts
    kept, lane = {slot: before.stack.lanes[slot] for slot in range(2, 9)}, before.stack.lanes[1]
    others = {name: part[list(kept.values())].clone() for name, part in before.stack.parts.items()}
    taken = site.budget.used
    new = _update(99)
    site.change(1, new)
    (after,) = site.batch(*range(1, 9)).parts
    assert after.stack is before.stack
    assert site.budget.used == taken
    assert after.stack.lanes == {**kept, 1: lane}
    assert torch.equal(after.stack.parts["A"][lane], new.A.T)
    assert all(torch.equal(after.stack.parts[name][list(kept.values())], part) for name, part in others.items())


def test_an_idle_adapter_may_be_on_its_way_out_while_others_get_a_larger_stack(site):
    site.batch(1, 2, 3)
    gone = site.updates.pop(1)  # as another thread does, which has not told yet
    (part,) = site.batch(*range(2, 9)).parts
    assert part.stack.lanes.keys() == set(range(2, 9))
    site.changed(1, gone)
    (later,) = site.batch(*range(2, 9)).parts
    assert later.stack is part.stack


def test_plans_of_batches_without_the_slot_that_changed_stay(site):
    one, other = site.batch(1, 2), site.batch(3, 4)
    site.change(1, _update(99))
    assert site.batch(3, 4) is other
    assert site.batch(1, 2) is not one


def test_an_adapter_that_joins_a_stack_that_is_full_brings_room_for_more(site):
    site.batch(1, 2, 3, 4)
    (grown,) = site.batch(3, 4, 5).parts
    assert grown.stack.lanes.keys() == {1, 2, 3, 4, 5}
    (same,) = site.batch(6, 1).parts
    assert same.stack is grown.stack


def test_no_bytes_are_counted_once_all_adapters_are_gone(site):
    site.batch(1, 2, 3)
    site.batch(4, 5, 6, 1)
    for slot in range(1, 9):
        site.change(slot, None)
    gc.collect()
    assert site.budget.used == 0


def test_a_factor_is_common_from_the_second_adapter_on_and_own_again_after_it():
    kinds, A = Kinds(), torch.randn(RANK, IN)
    for slot, update in {1: _update(1, A=A), 2: _update(2), 3: _update(3)}.items():
        kinds.add(slot, update)
    assert kinds.of[1] is kinds.of[2] is kinds.of[3]
    assert not kinds.of[1].shared
    kinds.add(4, _update(4, A=A))
    assert kinds.of[1] is kinds.of[4] is not kinds.of[2]
    assert kinds.of[1].shared == {"A"}
    kinds.remove(4)
    assert kinds.of[1] is kinds.of[2]
    assert 4 not in kinds.of


def test_a_copy_that_a_running_batch_may_read_stays_when_its_factor_becomes_common(site):
    (plan,) = site.batch(1, 2).parts
    lane, A = plan.stack.lanes[1], site.updates[1].A
    site.change(3, _update(3, A=A))
    site.change(4, _update(40))
    site.batch(2, 4, 5, 6, 7, 8)
    assert torch.equal(plan.stack.parts["A"][lane], A.T)


@pytest.mark.parametrize(
    "update",
    [LinearUpdate(D=torch.ones(OUT, IN)), replace(_update(0), A=torch.ones(RANK, IN, dtype=torch.float64))],
    ids=["dense", "float64"],
)
def test_what_cannot_be_stacked_has_no_kind(update):
    kinds = Kinds()
    kinds.add(1, update)
    kinds.remove(1)
    assert not kinds.of


@pytest.mark.parametrize("rows", [3, HUGE // 256, 2 * HUGE // 256 + 5])
def test_tensors_of_one_block_are_apart_aligned_and_writable(rows):
    shapes = {"A": ((rows, 64), torch.float32), "scale": ((7,), torch.bfloat16), "B": ((64, rows), torch.float32)}
    made = allocate(shapes, torch.device("cpu"))
    for k, (name, (shape, dtype)) in enumerate(shapes.items()):
        assert (made[name].shape, made[name].dtype) == (torch.Size(shape), dtype)
        assert made[name].data_ptr() % ALIGNED == 0 or rows == 3
        made[name].fill_(k + 1)
    assert all((made[name] == k + 1).all() for k, name in enumerate(shapes))
    assert not any(tensor.is_inference() for tensor in made.values())
