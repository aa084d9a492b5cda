"""How much an adapter changes each site, held against what its updates make of unit vectors and token ids."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from adapter_hub.effects import SiteEffect
from adapter_hub.updates import ParameterUpdate

from .every import NAMES


def _by_units(hub, path, update):
    """The norm of weight and bias that a linear has under an update less its own, from its outputs alone."""
    module = hub.base.module(path)
    bias = getattr(module, "bias", None)

    def both(x):
        own = F.linear(x, module.weight, bias)
        y = update.output(module, x, F.linear(update.base_input(x), module.weight, bias))
        return y - F.pad(own, (0, y.shape[-1] - own.shape[-1]))

    width = module.weight.shape[1]
    moved = both(torch.zeros(1, width))
    return math.hypot((both(torch.eye(width)) - moved).norm().item(), moved.norm().item())


def _by_ids(hub, path, update):
    module = hub.base.module(path)
    ids = torch.arange(module.num_embeddings)
    return (update.output(module, ids, module(ids)) - module(ids)).norm().item()


@pytest.mark.parametrize("name", NAMES)
def test_each_site_changes_by_what_comes_out_of_it(full_hub, name):
    updates = full_hub._residents.loaded(name)[0].updates
    found = full_hub.effects(name)
    assert [effect.path for effect in found] == [path for path in full_hub.base.sites if path in updates]
    for effect in found:
        update, site = updates[effect.path], full_hub.base.site(effect.path)
        with torch.no_grad():
            if isinstance(update, ParameterUpdate):
                own = dict(full_hub.base.module(effect.path).named_parameters())
                expected = math.hypot(*((new - own[key]).norm().item() for key, new in update.parameters.items()))
            else:
                by_itself = _by_ids if site.kind == "embedding" else _by_units
                expected = by_itself(full_hub, effect.path, update)
        assert effect.change == pytest.approx(expected, rel=1e-3, abs=1e-4), effect.path
        own = full_hub.base.module(effect.path).parameters()
        assert effect.base == pytest.approx(math.hypot(*(p.norm().item() for p in own)), rel=1e-4)
        assert effect.share == effect.change / effect.base


def test_a_sum_of_adapters_has_effects_and_twice_an_adapter_has_twice_them(hub):
    once, twice = hub.effects("a"), hub.effects("a*2")
    assert [effect.change * 2 for effect in once] == pytest.approx([effect.change for effect in twice], rel=1e-3)
    assert hub.tier("a*2") == "disk", "nothing was made resident for it"


def test_a_base_in_four_bit_is_measured_as_what_it_stands_for(hub, open_hub, folders):
    packed = open_hub(quantization="nf4", dtype="float32")
    packed.register("a", folders[0])
    for exact, found in zip(hub.effects("a"), packed.effects("a"), strict=True):
        assert found.change == exact.change
        assert found.base == pytest.approx(exact.base, rel=0.02)
        assert found.base != exact.base


def test_experts_are_measured_over_all_of_them():
    from types import SimpleNamespace

    from adapter_hub.updates import ExpertsUpdate, change_norm

    A, B = torch.randn(4, 2, 6), torch.randn(4, 5, 2)
    found = change_norm("site", ExpertsUpdate(A_up=A, B_up=B), SimpleNamespace())
    assert found == pytest.approx((B @ A).norm().item(), rel=1e-5)


def test_what_cannot_be_told_says_why(hub, monkeypatch):
    from adapter_hub.errors import UnsupportedFeature
    from adapter_hub.updates import norms

    def refuse(*_):
        raise UnsupportedFeature("its weight is packed.")

    monkeypatch.setattr(norms, "_linear_norm", refuse)
    effect = hub.effects("a")[0]
    assert (effect.change, effect.share, effect.reason) == (None, None, "its weight is packed.")
    assert effect.as_dict()["share"] is None
    assert SiteEffect("x", 1.0, 0.0).share is None
