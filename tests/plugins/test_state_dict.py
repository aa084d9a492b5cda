"""Bare tensors in one file, under every name that tools give them, against PEFT on the adapter they were taken from."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from adapter_hub import Settings
from adapter_hub.errors import AdapterError, CorruptFile, UnknownSite, UnsafeFile, UnsupportedFeature
from adapter_hub.loading.peek import peek_names
from adapter_hub.testing import logits

from ..models import peft_logits, save_adapter

PREFIX, ALPHA = "base_model.model.", {"lora_alpha": 12}
MODULES = ["q_proj", "up_proj", "down_proj"]


@pytest.fixture
def adapter(bases, tmp_path):
    return save_adapter(bases("llama"), tmp_path / "adapter", LoraConfig(r=4, lora_alpha=12, target_modules=MODULES))


def _flat(name: str) -> str:
    path, _, end = name.removeprefix(PREFIX).rpartition(".lora_")
    return path.replace(".", "_") + (".lora_down.weight" if end == "A.weight" else ".lora_up.weight")


NAMES = {
    "as PEFT saves": lambda name: name,
    "without its prefix": lambda name: name.removeprefix(PREFIX),
    "with the adapter's name": lambda name: name.replace(".weight", ".default.weight"),
    "from inside the model": lambda name: name.removeprefix(PREFIX).removeprefix("model."),
    "below another model": lambda name: "language_model." + name.removeprefix(PREFIX),
    "as older diffusers": lambda name: (
        name.removeprefix(PREFIX)
        .replace("lora_A.weight", "lora.down.weight")
        .replace("lora_B.weight", "lora.up.weight")
    ),
    "as the oldest diffusers": lambda name: (
        name.removeprefix(PREFIX)
        .replace("lora_A.weight", "lora_linear_layer.down.weight")
        .replace("lora_B.weight", "lora_linear_layer.up.weight")
    ),
    "kohya, dotted": lambda name: name.removeprefix(PREFIX).replace("lora_A", "lora_down").replace("lora_B", "lora_up"),
    "kohya, text encoder": lambda name: "lora_te1_" + _flat(name),
    "kohya, plain": lambda name: "lora_" + _flat(name),
    "lycoris": lambda name: "lycoris_" + _flat(name),
}


@pytest.mark.parametrize("naming", NAMES)
def test_a_module_is_found_by_every_name_it_has(naming, adapter, bases, open_hub, tmp_path, ids):
    path = tmp_path / "bare.safetensors"
    tensors = {NAMES[naming](name): t for name, t in load_file(adapter / "adapter_model.safetensors").items()}
    kohya = "lora_down" in "".join(tensors)
    if kohya:
        tensors |= {n.replace("lora_down.weight", "alpha"): torch.tensor(12.0) for n in tensors if "lora_down" in n}
    save_file(tensors, path)
    hub = open_hub()
    assert hub.load_adapter(path, "a", options={} if kohya else ALPHA).format == ("kohya" if kohya else "state_dict")
    torch.testing.assert_close(logits(hub, ["a"], ids), peft_logits(bases("llama"), adapter, ids), atol=1e-4, rtol=0)


def test_each_module_of_kohyas_has_its_own_alpha_and_without_one_a_scale_of_1(adapter, bases, open_hub, tmp_path, ids):
    tensors = load_file(adapter / "adapter_model.safetensors")
    named, scales = {}, {"q_proj": 3.0, "up_proj": 0.25, "down_proj": 1.0}
    for name, tensor in list(tensors.items()):
        flat, module = _flat(name), next(module for module in scales if module in name)
        named[flat] = tensor
        if flat.endswith("down.weight") and module != "down_proj":
            named[flat.replace("lora_down.weight", "alpha")] = torch.tensor(4 * scales[module]).half()
        if name.endswith("lora_B.weight"):
            tensors[name] = tensor * (scales[module] / 3)
    save_file(named, tmp_path / "k.safetensors")
    save_file(tensors, adapter / "adapter_model.safetensors")
    hub = open_hub()
    hub.load_adapter(tmp_path / "k.safetensors", "a")
    torch.testing.assert_close(logits(hub, ["a"], ids), peft_logits(bases("llama"), adapter, ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize("pickled", [True, False])
def test_a_dump_of_a_whole_model_leaves_the_base_aside(pickled, adapter, bases, open_hub, tmp_path, ids):
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(bases("llama"), dtype=torch.float32), adapter
    )
    state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    path = tmp_path / ("dump.ckpt" if pickled else "dump.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, path) if pickled else save_file(state, path)
    if pickled:
        with pytest.raises(UnsafeFile, match="allow_pickle"):
            open_hub().register("a", path, options=ALPHA)
    hub = open_hub(settings=Settings(allow_pickle=pickled))
    info = hub.load_adapter(path, "a", options=ALPHA)
    assert info.sites == 6
    assert "tensors of the base" in info.warnings[0]
    torch.testing.assert_close(logits(hub, ["a"], ids), peft_logits(bases("llama"), adapter, ids), atol=1e-4, rtol=0)


def test_decomposed_weights_are_told_by_their_magnitudes(bases, open_hub, tmp_path, ids):
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj"], use_dora=True)
    adapter = save_adapter(bases("llama"), tmp_path / "dora", config)
    save_file(load_file(adapter / "adapter_model.safetensors"), tmp_path / "bare.safetensors")
    hub = open_hub()
    assert hub.load_adapter(tmp_path / "bare.safetensors", "a", options=ALPHA).variant == "dora"
    torch.testing.assert_close(logits(hub, ["a"], ids), peft_logits(bases("llama"), adapter, ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda t: t.update({"q.dora_scale": torch.ones(4)}), UnsupportedFeature, "q.dora_scale of .*bare.safetensors"),
        (lambda t: t.update({"q.alpha": torch.ones(2)}), CorruptFile, r"q.alpha of .* is \[2\], and no number"),
        (lambda t: t.update({"q.lora_down.weight": torch.ones(2, 3, 3, 3)}), UnsupportedFeature, "convolutions"),
        (lambda t: t.update({"q.lora_down.weight": torch.ones(2, 3)}), UnknownSite, "no module 'q'"),
        (lambda t: t.popitem(), AdapterError, "lora_B.weight is missing|of no use"),
        (
            lambda t: t.update({"layers.0.mlp.up_proj.lora_down.weight": torch.ones(2, 3)}),
            CorruptFile,
            "up_proj.lora_A.weight is given twice",
        ),
    ],
)
def test_what_kohyas_style_cannot_say_is_refused_by_name(change, error, said, adapter, open_hub, tmp_path):
    tensors = {_flat(name): t for name, t in load_file(adapter / "adapter_model.safetensors").items()}
    change(tensors)
    save_file(tensors, tmp_path / "bare.safetensors")
    with pytest.raises(error, match=said):
        open_hub().register("a", tmp_path / "bare.safetensors")


def test_names_are_looked_at_without_running_anything(tmp_path):
    class Loud:
        def __reduce__(self):
            return print, ("code of the file ran",)

    torch.save({"a.lora_A.weight": torch.ones(2), "loud": Loud()}, tmp_path / "x.bin")
    assert "a.lora_A.weight" in peek_names(tmp_path / "x.bin")
    for content in (b"", b"PK\x03\x04", b"\x80\x02garbage", (1 << 62).to_bytes(8, "little")):
        for name in ("x.bin", "x.safetensors"):
            (tmp_path / name).write_bytes(content)
            assert peek_names(tmp_path / name) == frozenset()
