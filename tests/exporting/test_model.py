"""Adapters folded into plain checkpoints: transformers alone gives the logits that the hub gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM as Auto
from transformers import AutoTokenizer, GenerationConfig

from adapter_hub import AdapterHub, Settings
from adapter_hub.errors import BaseMismatch, NotFinite, NotRegistered, RequestError, UnsupportedFeature
from adapter_hub.testing import VOCABULARY, logits

from ..composing.test_summed import with_tokenizer
from ..every import NAMES
from ..models import peft_logits, save_adapter
from ..plugins.test_new_tokens import NEW, resized

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT on saved embeddings
ALL = ["q_proj", "v_proj", "up_proj", "down_proj"]


def plain_logits(folder, ids):
    """What transformers alone makes of an exported folder, in the type it is stored in."""
    model = Auto.from_pretrained(folder, dtype="auto").eval()
    with torch.inference_mode():
        return model(ids).logits


@pytest.mark.parametrize("name", [*NAMES, "lora*0.7+dora*0.3", "ia3*0.5+embedding*0.5"])
def test_every_variant_reloads_in_plain_transformers(name, full_hub, ids, tmp_path):
    exported = full_hub.export(name, tmp_path / "out", dtype="float32")
    expected = logits(full_hub, [name], ids)
    full_hub.unload()
    torch.testing.assert_close(plain_logits(tmp_path / "out", ids), expected, atol=1e-4, rtol=0)
    assert (expected - logits(full_hub, [None], ids)).abs().max() > 0.02
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {
        *exported.files
    }
    assert exported.bytes == sum(path.stat().st_size for path in exported.folder.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


ARCHITECTURES = {
    "llama-tied": {"target_modules": ALL},
    "qwen2": {"target_modules": ALL, "bias": "lora_only", "lora_bias": False},
    "gpt2": {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
    "bloom": {"target_modules": ["query_key_value", "dense_4h_to_h"]},
}


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_other_architectures(kind, dora, bases, open_hub, ids, tmp_path):
    adapter = save_adapter(bases(kind), tmp_path / "a", LoraConfig(r=4, use_dora=dora, **ARCHITECTURES[kind]))
    hub = open_hub(kind)
    hub.register("a", adapter)
    hub.export("a", tmp_path / "out", dtype="float32")
    torch.testing.assert_close(
        plain_logits(tmp_path / "out", ids), peft_logits(bases(kind), adapter, ids), atol=1e-4, rtol=0
    )
    tied = json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"]
    assert tied == (kind != "qwen2")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_base_in_4_bit_is_exported_dequantised_and_says_so(dtype, bases, open_hub, ids, tmp_path):
    hub = open_hub(quantization="nf4", dtype="float32")
    hub.register("a", save_adapter(bases(), tmp_path / "a", LoraConfig(r=4, use_dora=True, target_modules=ALL)))
    exported = hub.export("a", tmp_path / "out", dtype=dtype)
    found, expected = plain_logits(tmp_path / "out", ids).float(), logits(hub, ["a"], ids)
    if dtype == "float32":
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert (found - expected).norm() / expected.norm() < 2e-2
    assert "dequantised from nf4" in exported.weights
    card = (tmp_path / "out" / "README.md").read_text()
    assert "dequantised from nf4: they carry the quantiser's error" in card
    assert hub.info("a").digest in card
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == dtype


@pytest.mark.parametrize("dora", [False, True])
def test_an_exported_model_is_the_merged_path_bit_for_bit(dora, bases, open_hub, ids, tmp_path):
    hub = open_hub(quantization="nf4", dtype="bfloat16")
    config = LoraConfig(r=4, use_dora=dora, target_modules="all-linear")
    hub.register("a", save_adapter(bases(), tmp_path / "a", config))
    factors = logits(hub, ["a"], ids)
    assert hub.merge("a").kept_sites == {}
    merged = logits(hub, ["a"], ids)
    assert not torch.equal(merged, factors)
    hub.export("a", tmp_path / "out")
    assert torch.equal(plain_logits(tmp_path / "out", ids), merged)


@pytest.mark.parametrize("method", [{}, {"use_dora": True}])
@pytest.mark.parametrize("kind", ["llama", "llama-tied", "gpt2"])
def test_a_full_precision_base_takes_the_place_of_the_one_that_is_served(method, kind, bases, open_hub, ids, tmp_path):
    targets = ALL if kind != "gpt2" else ["c_attn"]
    adapter = save_adapter(bases(kind), tmp_path / "a", LoraConfig(r=4, target_modules=targets, **method))
    hub = open_hub(kind, quantization="nf4", dtype="float32")
    hub.register("a", adapter)
    exported = hub.export("a", tmp_path / "out", dtype="float32", full_base=bases(kind))
    torch.testing.assert_close(
        plain_logits(tmp_path / "out", ids), peft_logits(bases(kind), adapter, ids), atol=1e-4, rtol=0
    )
    assert exported.weights == f"of the full-precision checkpoint {bases(kind)}"
    written, own = (GenerationConfig.from_pretrained(folder) for folder in (tmp_path / "out", bases(kind)))
    assert written == own
    hub.export("a*0.5", tmp_path / "half", dtype="float32", full_base=bases(kind))
    plain = open_hub(kind)
    plain.register("a", adapter)
    torch.testing.assert_close(plain_logits(tmp_path / "half", ids), logits(plain, ["a*0.5"], ids), atol=1e-4, rtol=0)


def test_another_base_is_no_full_precision_base(bases, open_hub, folders, tmp_path):
    hub = open_hub()
    hub.register("a", folders[0])
    with pytest.raises(BaseMismatch, match="is another base"):
        hub.export("a", tmp_path / "out", full_base=bases("llama-tied"))
    tuned = Auto.from_pretrained(bases())
    with torch.no_grad():
        tuned.model.norm.weight += 0.1
    tuned.save_pretrained(tmp_path / "tuned")
    shutil.copy(bases() / "tokenizer.json", tmp_path / "tuned")
    shutil.copy(bases() / "tokenizer_config.json", tmp_path / "tuned")
    with pytest.raises(BaseMismatch, match="is another base"):
        hub.export("a", tmp_path / "out", full_base=tmp_path / "tuned")
    assert not (tmp_path / "out").exists()
    free = open_hub(settings=Settings(allow_base_mismatch=True))
    free.register("a", folders[0])
    free.export("a", tmp_path / "out", full_base=tmp_path / "tuned", dtype="float32")
    exported = Auto.from_pretrained(tmp_path / "out").model.norm.weight
    torch.testing.assert_close(exported, tuned.model.norm.weight)


@pytest.mark.parametrize("kind", ["llama", "llama-tied"])
def test_added_tokens_resize_the_checkpoint(kind, bases, open_hub, ids, tmp_path):
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(resized(bases(kind)), config).save_pretrained(tmp_path / "raw", save_embedding_layers=True)
    adapter = with_tokenizer(tmp_path / "raw", tmp_path / "a", token="<sql>", template="{{ messages[0].content }}")
    hub = open_hub(kind)
    hub.register("a", adapter)
    hub.export("a", tmp_path / "out", dtype="float32")
    ids[0, 4] = NEW - 1
    torch.testing.assert_close(plain_logits(tmp_path / "out", ids), logits(hub, ["a"], ids), atol=1e-4, rtol=0)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["vocab_size"], config["tie_word_embeddings"]) == (NEW, kind == "llama-tied")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("<sql>")["input_ids"] == [VOCABULARY]
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "x"


def test_a_tied_head_that_goes_another_way_is_untied(bases, open_hub, ids, tmp_path):
    adapter = save_adapter(bases("llama-tied"), tmp_path / "a", LoraConfig(r=4, target_modules=["embed_tokens"]))
    hub = open_hub("llama-tied")
    hub.register("a", adapter)
    hub.export("a", tmp_path / "out", dtype="float32")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    expected = peft_logits(bases("llama-tied"), adapter, ids)
    torch.testing.assert_close(plain_logits(tmp_path / "out", ids), expected, atol=1e-4, rtol=0)
    tokens = LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[5, 70])
    hub.register("t", save_adapter(bases("llama-tied"), tmp_path / "t", tokens))
    hub.export("t*0.5", tmp_path / "tied", dtype="float32")
    assert json.loads((tmp_path / "tied" / "config.json").read_text())["tie_word_embeddings"] is True
    ids[0, 2] = 5
    torch.testing.assert_close(plain_logits(tmp_path / "tied", ids), logits(hub, ["t*0.5"], ids), atol=1e-4, rtol=0)


def test_tokenizer_and_stops_are_the_adapters(open_hub, folders, tmp_path):
    own = with_tokenizer(folders[0], tmp_path / "a", template="own")
    tokenizer = AutoTokenizer.from_pretrained(own)
    tokenizer.eos_token = "z"
    tokenizer.save_pretrained(own)
    hub = open_hub()
    hub.register("a", own)
    hub.register("b", folders[1])
    hub.export("a", tmp_path / "own")
    hub.export("b", tmp_path / "plain")
    z = tokenizer.convert_tokens_to_ids("z")
    assert GenerationConfig.from_pretrained(tmp_path / "own").eos_token_id == z
    assert GenerationConfig.from_pretrained(tmp_path / "plain").eos_token_id == 2
    assert AutoTokenizer.from_pretrained(tmp_path / "own").eos_token == "z"
    assert AutoTokenizer.from_pretrained(tmp_path / "plain").chat_template == hub.tokenizer.chat_template


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"dtype": "int8"}, RequestError, "int8"),
        ({"max_shard_size": "5 apples"}, RequestError, "'5 apples' is no size"),
        ({"max_shard_size": 0}, RequestError, "0 is no size"),
        ({"rank": 4}, RequestError, "rank is of adapters"),
        ({"as_": "canonical", "dtype": "bfloat16"}, RequestError, "dtype is of a model"),
        ({"as_": "canonical", "rank": 0}, RequestError, "rank is 0"),
        ({"as_": "origami"}, RequestError, r"no way to export as 'origami'\. Ways: model: .*; canonical: "),
    ],
)
def test_arguments_that_cannot_be(options, error, said, hub, tmp_path):
    with pytest.raises(error, match=said):
        hub.export("a", tmp_path / "out", **options)
    with pytest.raises(NotRegistered, match="nobody"):
        hub.export("nobody", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_checkpoint_has_no_place_for_is_refused(bases, open_hub, tmp_path):
    hub = open_hub()
    hub.register("b", save_adapter(bases(), tmp_path / "b", LoraConfig(r=2, lora_bias=True, target_modules=["q_proj"])))
    with pytest.raises(UnsupportedFeature, match=r"q_proj: the adapter adds a bias, for which .* no place"):
        hub.export("b", tmp_path / "out")
    rows = LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[7, NEW - 1])
    get_peft_model(resized(bases("llama-tied")), rows).save_pretrained(tmp_path / "t", save_embedding_layers=False)
    hub = open_hub("llama-tied")
    hub.register("t", tmp_path / "t")
    with pytest.raises(UnsupportedFeature, match="2 between them have no values"):
        hub.export("t", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_values_that_a_type_cannot_hold_are_refused(bases, open_hub, tmp_path):
    hub = open_hub()
    large = LoraConfig(r=2, lora_alpha=2_000_000, target_modules=["q_proj"])
    hub.register("a", save_adapter(bases(), tmp_path / "a", large))
    with pytest.raises(NotFinite, match=r"q_proj.weight holds values that float16 cannot"):
        hub.export("a", tmp_path / "out", dtype="float16")


def test_the_base_stays_bit_for_bit(open_hub, folders, ids, tmp_path):
    hub = open_hub(quantization="nf4", dtype="bfloat16")
    hub.register("a", folders[0])
    bare = logits(hub, [None], ids)
    for k in range(2):
        hub.export("a", tmp_path / f"out{k}")
    assert torch.equal(logits(hub, [None], ids), bare)
    one, two = (tmp_path / f"out{k}" / "model.safetensors" for k in range(2))
    assert one.read_bytes() == two.read_bytes()


def test_on_the_default_base(ids, tmp_path):
    folder = Path(__file__).parents[2] / "demo" / "adapters" / "sql"
    with AdapterHub.from_pretrained(dtype="float32", device="cpu") as hub:
        hub.register("sql", folder)
        hub.export("sql", tmp_path / "out", dtype="float32", max_shard_size="200MB")
        expected = logits(hub, ["sql"], ids)
    found = plain_logits(tmp_path / "out", ids)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
