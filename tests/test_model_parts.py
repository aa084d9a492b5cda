"""Parts of the model that are called by themselves follow the default adapter, as the whole model does."""

from __future__ import annotations

import torch
from peft import LoraConfig

from .models import save_adapter


def test_the_inner_model_follows_the_default_and_an_enclosing_block(bases, open_hub, ids, tmp_path):
    hub = open_hub()
    hub.load_adapter(save_adapter(bases(), tmp_path / "a", LoraConfig(target_modules=["q_proj", "up_proj"])), "a")
    bare = hub.model.model(ids).last_hidden_state
    with hub.rows(["a"]):
        adapted = hub.model.model(ids).last_hidden_state
    assert (adapted - bare).abs().max() > 0.01
    hub.set_adapter("a")
    assert torch.equal(hub.model.model(ids).last_hidden_state, adapted)
    with hub.rows([None]):
        assert torch.equal(hub.model.model(ids).last_hidden_state, bare)
    hub.set_adapter(None)
    assert torch.equal(hub.model.model(ids).last_hidden_state, bare)
