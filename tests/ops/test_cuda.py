"""The same on a GPU: every path against the oracle there, and a captured graph while adapters come and go."""

from __future__ import annotations

import itertools
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from adapter_hub.ops import StackBudget, choose
from adapter_hub.runtime.rowmap import RowMap
from adapter_hub.runtime.site import AdaptedSite
from adapter_hub.runtime.transfer import Transfer
from adapter_hub.testing import assert_rows_as_expected, draw_update, expected, workloads

from .test_mixed import BRANCH, PARTS

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
    pytest.mark.skipif(find_spec("triton") is None, reason="needs triton"),
]
IN, OUT = 576, 1536
DEVICE = torch.device("cuda", 0)


def _update(parts, seed, rank=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_update(
        parts,
        lambda *shape: torch.randn(shape, generator=generator),
        num_inputs=IN,
        num_outputs=OUT,
        rank=rank,
        dtype=dtype,
    )
    transfer = Transfer(DEVICE)
    sent = drawn.map_tensors(lambda tensor: transfer.send(tensor, tensor.dtype))
    transfer.finish()
    return sent


def _site(path, updates, dtype):
    torch.manual_seed(0)
    module, now = nn.Linear(IN, OUT, dtype=dtype, device=DEVICE), {}
    plain = nn.Linear(IN, OUT, dtype=dtype, device=DEVICE)
    plain.load_state_dict(module.state_dict())
    site = AdaptedSite(module, lambda: now["rows"], choose(path, DEVICE, StackBudget(10**10)))
    site.attach()
    for slot, update in updates.items():
        site.install(slot, update)
    site.now, site.plain = now, plain
    return site


@pytest.mark.parametrize("path", ["reference", "torch", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_part_rank_and_type_in_every_workload(dtype, path):
    ranks, types = itertools.cycle((1, 8, 16, 23, 64)), itertools.cycle((torch.float32, torch.bfloat16))
    updates = {k: _update(parts, k, next(ranks), next(types)) for k, parts in enumerate(PARTS * 2, start=1)}
    site = _site(path, updates, dtype)
    for workload in workloads(2, len(updates) + 2, sizes=(3, 8, 32)):
        x = torch.randn(workload.shape(IN), device=DEVICE).to(dtype)
        site.now["rows"] = workload.rows()
        with torch.inference_mode():
            y = site.module(x)
            wanted = expected(site.plain, site.updates, workload, x)
        assert_rows_as_expected(y, wanted, atol=2e-4 if dtype == torch.float32 else 4e-2)


def test_a_captured_graph_stays_right_while_adapters_come_and_go():
    """Captured once; then other slots, another adapter in an old slot, and one in a new slot."""
    updates = {k: _update(BRANCH, k, rank=(8, 16)[k % 2]) for k in range(1, 5)}
    site = _site("triton", updates, torch.bfloat16)
    slots = (1, 2, 3, 4, 0, 1, 2, 3)
    rows = site.now["rows"] = RowMap(slots).for_batch(len(slots), 1)
    x = torch.randn(len(slots), 1, IN, device=DEVICE).bfloat16()
    static_slots = rows.composition(x).slot_of_token(DEVICE)
    with torch.inference_mode():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            site.module(x)  # compiles
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = site.module(x)

        def hold(now):
            static_slots.copy_(torch.tensor(now, dtype=torch.int32))
            x.copy_(torch.randn(len(now), 1, IN))
            graph.replay()
            for k, slot in enumerate(now):
                update = site.updates.get(slot)
                base = site.plain(x[k])
                wanted = base if update is None else update.output(site.plain, x[k], base)
                torch.testing.assert_close(y[k], wanted, atol=4e-2, rtol=4e-2)

        structure = site._planner.structure
        hold(slots)
        hold((4, 4, 0, 1, 2, 2, 3, 0))
        site.clear(2)
        site.install(2, _update((*BRANCH, "out_scale", "bias"), 12, rank=5))
        site.install(9, _update(BRANCH, 13, rank=3))
        hold((2, 9, 0, 1, 2, 9, 3, 4))
        assert site._planner.structure == structure, "what changes it makes a captured graph stale"
    static_slots.copy_(torch.tensor(slots, dtype=torch.int32))
