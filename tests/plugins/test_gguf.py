"""GGUF files in every detail that a converter can put into one, and in every way that a file can lie."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFType, GGUFWriter
from gguf.quants import quantize
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from safetensors.torch import load_file

from adapter_hub.errors import AdapterError, BaseMismatch, CorruptFile, UnknownFormat, UnsupportedFeature
from adapter_hub.testing import logits
from plugins.gguf_file import peek_fields, read_gguf
from plugins.row_orders import pairs_from_halves

from ..models import peft_logits, save_adapter
from .test_tool_files import FILES

FILE = FILES / "gguf" / "llama.gguf"
PREFIX = "base_model.model."
NAMES = {"self_attn.q_proj": "attn_q", "mlp.up_proj": "ffn_up", "self_attn.v_proj": "attn_v"}


def write(path: Path, adapter: Path, alpha: float = 6.0, arch: str = "llama", **fields: object) -> Path:
    """A LoRA of a tiny Llama as GGUF; norms are written whole."""
    writer = GGUFWriter(path, arch)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string("adapter.type", str(fields.pop("adapter_type", "lora")))
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, value in fields.items():
        writer.add_array(name.replace("__", "."), value)
    for name, tensor in load_file(adapter / "adapter_model.safetensors").items():
        path_, _, end = name.removeprefix(PREFIX).partition(".lora_")
        if not end:
            layer = path_.removeprefix("model.layers.").partition(".")[0]
            writer.add_tensor(f"blk.{layer}.attn_norm.weight", tensor.numpy())
            continue
        layer, _, module = path_.removeprefix("model.layers.").partition(".")
        if module.endswith("q_proj") and end == "B.weight":
            tensor = pairs_from_halves(tensor, 4, name)
        writer.add_tensor(f"blk.{layer}.{NAMES[module]}.weight.lora_{end[0].lower()}", tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def lora(bases, tmp_path):
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "up_proj", "v_proj"])
    return save_adapter(bases("llama"), tmp_path / "lora", config)


def test_a_lone_file_in_a_folder_is_found(lora, bases, open_hub, tmp_path, ids):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out" / "x.gguf", lora)
    (tmp_path / "out" / "README.md").write_text("a card")
    hub = open_hub()
    info = hub.load_adapter(tmp_path / "out", "a")
    assert info.folder == str(tmp_path / "out" / "x.gguf")
    torch.testing.assert_close(logits(hub, ["a"], ids), peft_logits(bases("llama"), lora, ids), atol=1e-4, rtol=0)
    write(tmp_path / "out" / "y.gguf", lora)
    with pytest.raises(UnknownFormat, match=r"holds 2 adapters: x.gguf, y.gguf"):
        hub.register("b", tmp_path / "out")


def test_the_scale_of_an_rslora_is_lost_and_can_be_stated(bases, open_hub, tmp_path, ids):
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj"], use_rslora=True)
    source = save_adapter(bases("llama"), tmp_path / "lora", config)
    expected = peft_logits(bases("llama"), source, ids)
    path = write(tmp_path / "x.gguf", source)
    hub = open_hub()
    assert "state use_rslora=true" in hub.load_adapter(path, "unstated").warnings[0]
    assert (logits(hub, ["unstated"], ids) - expected).abs().max() > 0.01
    assert hub.load_adapter(path, "stated", options={"use_rslora": True}).warnings == ()
    torch.testing.assert_close(logits(hub, ["stated"], ids), expected, atol=1e-4, rtol=0)
    assert hub.load_adapter(path, "denied", options={"use_rslora": False}).warnings == ()


def test_an_alpha_of_0_is_a_scale_of_1_whatever_the_ranks(bases, open_hub, tmp_path, ids):
    config = LoraConfig(
        r=4,
        lora_alpha=4,
        target_modules=["q_proj", "up_proj"],
        rank_pattern={"up_proj": 2},
        alpha_pattern={"up_proj": 2},
    )
    source = save_adapter(bases("llama"), tmp_path / "lora", config)
    hub = open_hub()
    assert hub.load_adapter(write(tmp_path / "x.gguf", source, alpha=0.0), "a").ranks == (2, 4)
    torch.testing.assert_close(logits(hub, ["a"], ids), peft_logits(bases("llama"), source, ids), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_norms_beside_the_pairs_are_served(bases, open_hub, tmp_path, ids):
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj"], modules_to_save=["input_layernorm"])
    source = save_adapter(bases("llama"), tmp_path / "lora", config)
    hub = open_hub()
    hub.load_adapter(write(tmp_path / "x.gguf", source), "a")
    torch.testing.assert_close(logits(hub, ["a"], ids), peft_logits(bases("llama"), source, ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"arch": "mamba"}, UnsupportedFeature, "'mamba', and how llama.cpp orders its rows"),
        ({"arch": "qwen2"}, BaseMismatch, "is for a qwen2 of llama.cpp, the base .* is a llama"),
        ({"adapter_type": "control_vector"}, UnknownFormat, "no adapter that any format recognises"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused_by_name(fields, error, said, lora, open_hub, tmp_path):
    path = write(tmp_path / "x.gguf", lora, **fields)
    with pytest.raises(error, match=said):
        open_hub().register("a", path)


def test_every_type_that_the_library_unpacks_is_read(tmp_path):
    values = np.random.RandomState(0).standard_normal((4, 256)).astype(np.float32)
    lost = {"F32": 0, "F16": 2e-3, "BF16": 2e-2, "Q8_0": 3e-2, "Q4_0": 0.6, "Q5_1": 0.4}
    for name, atol in lost.items():
        kind = GGMLQuantizationType[name]
        writer = GGUFWriter(tmp_path / name, "llama")
        packed = values if name == "F32" else quantize(values, kind)
        writer.add_tensor("a", packed, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        found = read_gguf(tmp_path / name)[1]["a"]
        assert found.shape == (4, 256)
        torch.testing.assert_close(found.float(), torch.from_numpy(values), atol=atol, rtol=0)


def test_a_models_own_gguf_is_no_adapter(tmp_path, open_hub):
    writer = GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_type(GGUFType.MODEL)
    writer.add_token_list([f"token {k}" for k in range(10_000)])
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert peek_fields(tmp_path / "model.gguf", "general.type") == {"general.type": "model"}
    with pytest.raises(UnknownFormat):
        open_hub().register("a", tmp_path / "model.gguf")


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


HEAD = b"GGUF" + struct.pack("<I", 3)
ADAPTER = _text("general.type") + struct.pack("<I", 8) + _text("adapter")


def _field(kind: int, *numbers: int, form: str = "<") -> bytes:
    """A file with one more field, of a type of its own."""
    return HEAD + struct.pack("<QQ", 0, 2) + ADAPTER + _text("x") + struct.pack(f"<I{form[1:]}", kind, *numbers)


def _one(shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    """A file with one tensor, and bytes enough for a small one."""
    entry = _text("a") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    return HEAD + struct.pack("<QQ", 1, 1) + ADAPTER + entry + bytes(900)


LIES = {
    "tensors without end": HEAD + struct.pack("<QQ", 2**63, 1) + ADAPTER,
    "fields without end": HEAD + struct.pack("<QQ", 0, 2**63) + ADAPTER,
    "a text without end": HEAD + struct.pack("<QQ", 0, 1) + struct.pack("<Q", 2**62),
    "an array without end": _field(9, 4, 2**60, form="<IQ"),
    "arrays within arrays": _field(*[9] * 900, form="<" + "I" * 899),
    "a type that there is not": _field(77),
    "a shape beyond memory": _one((2**31, 2**31)),
    "nothing times 2^63": _one((0, 2**63)),
    "a hundred dimensions": _one((1,) * 100),
    "an offset beyond the end": _one((4, 4), offset=2**62),
    "a tensor type that there is not": _one((4, 4), kind=99),
    "half a block": _one((33, 4), kind=8),
    "big endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "version 1": b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
    "another file": b"PK\x03\x04",
    "nothing": b"",
}


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_lies_is_refused_in_no_time(case, tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(LIES[case])
    peek_fields(path, "general.type", "adapter.type")
    with pytest.raises(CorruptFile, match=r"x\.gguf cannot be read as GGUF"):
        read_gguf(path)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_damaged_bytes_are_refused_by_the_files_name_or_read(tmp_path_factory, data):
    content = bytearray(FILE.read_bytes())
    match data.draw(st.sampled_from(["cut", "flip", "flip in the header", "number"])):
        case "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        case "flip":
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        case "flip in the header":
            content[data.draw(st.integers(0, 1500))] ^= data.draw(st.integers(1, 255))
        case "number":
            at = data.draw(st.integers(8, 1500))
            content[at : at + 8] = data.draw(st.sampled_from([0, 1, 2**31, 2**62, 2**64 - 1])).to_bytes(8, "little")
    path = tmp_path_factory.mktemp("fuzz") / "x.gguf"
    path.write_bytes(content)
    peek_fields(path, "general.type", "adapter.type")
    try:
        _, tensors = read_gguf(path)
    except AdapterError as refused:
        said = str(refused)
    else:
        said = f"{path} was read"
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    assert str(path) in said
