"""The plugin against PEFT, and beside other rows."""

import json

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config

from adapter_hub import AdapterHub
from adapter_hub.errors import UnsupportedFeature
from adapter_hub.testing import VOCABULARY, assert_rows_as_alone, logits, random_ids, save_tiny_base

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def _save(base, folder, config, seed):
    torch.manual_seed(seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(params=["llama", "with biases"])
def base(request, tmp_path):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    qwen = Qwen2Config(vocab_size=VOCABULARY, num_key_value_heads=2, bos_token_id=1, eos_token_id=2, **sizes)
    return save_tiny_base(tmp_path / "base", None if request.param == "llama" else qwen)


@pytest.fixture
def adapter(base, tmp_path):
    config = IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])
    return _save(base, tmp_path / "ia3", config, 1)


def test_it_is_what_peft_serves(base, adapter):
    with AdapterHub.from_pretrained(base, quantization=None) as hub:
        assert hub.load_adapter(adapter, "a").variant == "ia3"
        ids = random_ids(1)
        ours, bare = logits(hub, ["a"], ids), logits(hub, [None], ids)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    with torch.inference_mode():
        theirs = model(ids).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert (theirs - bare).abs().max() > 0.05


def test_it_shares_a_batch_with_others(base, adapter, tmp_path):
    lora = _save(base, tmp_path / "lora", LoraConfig(r=4, target_modules=["q_proj", "k_proj"]), 2)
    with AdapterHub.from_pretrained(base, quantization=None) as hub:
        hub.load_adapter(adapter, "a")
        hub.load_adapter(lora, "b")
        assert_rows_as_alone(hub, ["a", None, "b", "a"])


def test_a_setting_it_does_not_know_is_refused(base, adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "a_setting_of_tomorrow": 1}))
    with (
        AdapterHub.from_pretrained(base, quantization=None) as hub,
        pytest.raises(UnsupportedFeature, match="a_setting_of_tomorrow"),
    ):
        hub.register("a", adapter)
