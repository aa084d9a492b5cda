"""The host tier beside a GPU and on a CPU: what is kept, handed over, copied and counted."""

from __future__ import annotations

import threading

import pytest
import torch

from adapter_hub.runtime import HostCopy, HostTier
from adapter_hub.runtime import host as module
from adapter_hub.updates import LinearUpdate

from ..until import SECONDS, until

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def pinned(monkeypatch):
    """Without a GPU there is no page-locked memory: plain copies take its place, and are counted."""
    made = []
    if not torch.cuda.is_available():
        monkeypatch.setattr(module, "_pin", lambda tensor: (made.append(tensor), tensor.contiguous().clone())[1])
    return made


def _copy(rank=4, shared=()):
    return HostCopy({"site": LinearUpdate(A=torch.randn(rank, 8), B=torch.randn(8, rank))}, shared, "voice")


def _hold(tier, digest, read):
    with tier.holding(digest, read) as copy:
        return copy


def _unread():
    raise AssertionError("its files were read")


def test_beside_a_gpu_an_adapter_stays_while_it_is_on_the_device():
    tier = HostTier(1000, CUDA)
    first = _copy()
    kept = _hold(tier, "a", lambda: first)
    assert torch.equal(kept.updates["site"].A, first.updates["site"].A)
    assert kept.updates["site"].A.data_ptr() != first.updates["site"].A.data_ptr(), "it was pinned"
    assert _hold(tier, "a", _unread) is kept
    assert tier.listing() == {"a": 4 * 4 * 16}
    assert (tier.report().hits, tier.report().misses, tier.report().loads) == (1, 1, 1)
    tier.drop("a")
    assert tier.listing() == {}


def test_on_a_cpu_an_adapter_is_here_only_while_it_is_in_no_slot(pinned):
    tier, copy = HostTier(1000, CPU), _copy()
    assert _hold(tier, "a", lambda: copy) is copy
    assert tier.listing() == {}
    tier.keep("a", copy)
    assert tier.listing() == {"a": 256}
    assert _hold(tier, "a", _unread) is copy
    assert tier.listing() == {}
    assert pinned == []


def test_one_that_could_not_be_put_into_a_slot_stays():
    tier, copy = HostTier(1000, CPU), _copy()
    tier.keep("a", copy)
    with pytest.raises(MemoryError), tier.holding("a", _unread):
        raise MemoryError
    assert tier.listing() == {"a": 256}


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_the_budget_holds_and_what_does_not_fit_is_served_all_the_same(device):
    tier = HostTier(600, device)
    for digest in "abc":
        tier.keep(digest, _copy())
    assert list(tier.listing()) == ["b", "c"]
    large = _copy(rank=64)
    tier.keep("large", large)
    assert _hold(tier, "larger", lambda: large) is large
    assert list(tier.listing()) == ["b", "c"], "nothing had to go for it"
    tier.clear()
    assert tier.report().used == 0


def test_views_of_shared_tensors_are_views_of_their_copies(pinned):
    whole = torch.randn(16, 8)
    updates = {f"s{k}": LinearUpdate(A=whole[:4], B=torch.randn(8, 4), mid_scale=torch.randn(4)) for k in range(3)}
    updates["t"] = LinearUpdate(A=whole[8:12, ::2], B=torch.randn(8, 4))
    tier = HostTier(10**6, CUDA)
    kept = _hold(tier, "a", lambda: HostCopy(updates, (whole,), None))
    for path, update in updates.items():
        assert torch.equal(kept.updates[path].A, update.A)
        if not torch.cuda.is_available():
            block = kept.updates[path].A.untyped_storage().data_ptr()
            assert block == kept.shared[0].untyped_storage().data_ptr() != whole.data_ptr()
    assert tier.listing()["a"] == 4 * (16 * 8 + 4 * 8 * 4 + 3 * 4)
    assert torch.cuda.is_available() or len(pinned) == 1 + 4 + 3


def test_a_part_of_a_file_counts_as_what_it_keeps_from_being_freed():
    block = torch.zeros(1000)
    assert HostCopy({"s": LinearUpdate(bias=block[:8])}, (), None).num_bytes == 4000


def test_of_several_who_ask_one_reads():
    tier, go, reads, seen = HostTier(1000, CPU), threading.Event(), [], []

    def read():
        reads.append(1)
        go.wait(SECONDS)
        return _copy()

    threads = [threading.Thread(target=lambda: seen.append(_hold(tier, "a", read))) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: "a" in tier._cache._makings and tier._cache._makings["a"].waiting == 3)
    go.set()
    for thread in threads:
        thread.join()
    assert len(reads) == 1
    assert len({id(copy) for copy in seen}) == 1
