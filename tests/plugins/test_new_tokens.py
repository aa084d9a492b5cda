"""Adapters that add tokens to the vocabulary: their rows know them, everybody else's rows cannot pick them."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM as Auto

from adapter_hub.errors import RequestError
from adapter_hub.testing import VOCABULARY, tiny_tokenizer

from ..models import save_adapter

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT and transformers comment on resizing
NEW = VOCABULARY + 3


def resized(folder):
    torch.manual_seed(3)
    model = Auto.from_pretrained(folder, dtype=torch.float32)
    model.resize_token_embeddings(NEW, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[VOCABULARY:].normal_(0, 0.15)
        model.get_output_embeddings().weight[VOCABULARY:].normal_(0, 0.15)
    return model


@pytest.mark.parametrize("kind", ["llama", "llama-tied"])
def test_a_resized_vocabulary_is_served_as_peft_serves_it(kind, bases, open_hub, tmp_path, ids):
    model = get_peft_model(resized(bases(kind)), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    model.save_pretrained(tmp_path / "a", save_embedding_layers=True)
    oracle = PeftModel.from_pretrained(resized(bases(kind)), tmp_path / "a").eval()
    ids[0, 4] = NEW - 1
    hub = open_hub(kind)
    hub.load_adapter(tmp_path / "a", "a")
    hub.load_adapter(save_adapter(bases(kind), tmp_path / "b", LoraConfig(r=4, target_modules=["q_proj"])), "b")
    with hub.rows(["a"]), torch.inference_mode():
        logits = hub.model(ids).logits
        torch.testing.assert_close(logits, oracle(ids).logits, atol=1e-4, rtol=0)
    old = ids % VOCABULARY
    with hub.rows(["b", "a", None]):
        mixed = hub.model(torch.cat([old, ids, old])).logits
    torch.testing.assert_close(mixed[1:2], logits, atol=1e-4, rtol=0)
    assert torch.isneginf(mixed[[0, 2], :, VOCABULARY:]).all()
    torch.testing.assert_close(mixed[2:, :, :VOCABULARY], hub.model(old).logits, atol=1e-4, rtol=0)


def test_trained_rows_may_lie_beyond_the_vocabulary(bases, open_hub, tmp_path, ids):
    config = LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[7, NEW - 1])
    model = get_peft_model(resized(bases("llama-tied")), config)
    model.save_pretrained(tmp_path / "a", save_embedding_layers=False)
    ids[0, 4] = NEW - 1
    hub = open_hub("llama-tied")
    hub.load_adapter(tmp_path / "a", "a")
    with hub.rows(["a"]), torch.inference_mode():
        logits, expected = hub.model(ids).logits, model.eval()(ids).logits
    torch.testing.assert_close(logits[..., :VOCABULARY], expected[..., :VOCABULARY], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits[..., -1], expected[..., -1], atol=1e-4, rtol=0)
    assert torch.isneginf(logits[..., VOCABULARY:-1]).all(), "tokens without rows must not be picked"


def test_a_tokenizer_with_more_tokens_than_the_weights_is_noticed(bases, open_hub, tmp_path):
    adapter = save_adapter(bases("llama"), tmp_path / "a", LoraConfig(r=4, target_modules=["q_proj"]))
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<sql>"])
    tokenizer.save_pretrained(adapter)
    hub = open_hub()
    hub.load_adapter(adapter, "a")
    assert hub.generate("select", adapter="a", max_new_tokens=2).prompt_tokens == 6
    with pytest.raises(RequestError, match=f"token {VOCABULARY}"):
        hub.generate("<sql>", adapter="a", max_new_tokens=2)
    assert hub.generate("still here", adapter="a", max_new_tokens=2).adapter == "a"
