"""Adapters that were written as GGUF, in llama.cpp's own runtime: ``python -m tests.plugins.tool_files.run_llama_cpp``.

Needs llama-cpp-python (0.3.36 was used). Prints the largest difference of a logit from PEFT's, of the bare base and
with the adapter on. llama.cpp keeps keys and values in 16 bit, so neither is zero.
"""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import torch
from gguf import GGUFWriter

from adapter_hub import AdapterHub, Settings
from plugins.gguf_export import FILE, GgufExport
from plugins.gguf_layout import from_base_rows, layout_of, names_of

from ...models import peft_logits
from .base import IDS, save_drawn_adapter, save_drawn_base

CASES = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head"],
    "qwen2": ["q_proj", "k_proj", "down_proj"],
    "phi3": ["qkv_proj", "gate_up_proj"],
    "bloom": ["query_key_value", "dense"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}
TOKENS = len(IDS[0])


def main() -> None:
    llama_cpp.llama_backend_init()
    ids = torch.tensor(IDS)
    for kind, modules in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            folder = save_drawn_base(root / "base", kind)
            hub = AdapterHub.from_pretrained(folder, quantization=None, device="cpu", settings=Settings())
            # Ranks that differ, and a scale that only B can hold.
            pattern = {"use_rslora": True, "rank_pattern": {r".*\.1\..*": 2}}
            adapter = save_drawn_adapter(folder, root / "a", r=4, lora_alpha=6, target_modules=modules, **pattern)
            loader = hub._residents.reader.loader
            GgufExport().write(loader.load(loader.fetch(str(adapter)), hub.base), hub.base, root, rank=None, record={})
            write_base(hub, root / "base.gguf")
            model = llama_cpp.llama_model_load_from_file(
                str(root / "base.gguf").encode(), llama_cpp.llama_model_default_params()
            )
            lora = llama_cpp.llama_adapter_lora_init(model, str(root / FILE).encode())
            bare, adapted = peft_logits(folder, None, ids), peft_logits(folder, adapter, ids)
            lost = [(logits(model) - bare).abs().max(), (logits(model, lora) - adapted).abs().max()]
            moved = (adapted - bare).abs().max()
            print(f"{kind}: base {lost[0]:.1e}, adapter {lost[1]:.1e}, which moves the logits by {moved:.1f}")
            hub.close()


def write_base(hub: AdapterHub, path: Path) -> None:
    """A tiny base without a vocabulary, as llama.cpp has it."""
    base, config = hub.base, hub.base.model.config
    layout = layout_of(base)
    names, writer = names_of(layout, base), GGUFWriter(path, layout.name)
    writer.add_type("model")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", None) or 128)
    writer.add_head_count(4)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or 4)
    writer.add_layer_norm_rms_eps(getattr(config, "rms_norm_eps", 1e-6))
    writer.add_layer_norm_eps(getattr(config, "layer_norm_epsilon", 1e-5))
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(96)
    writer.add_tokenizer_model("none")
    for key, value in base.model.state_dict().items():
        site, _, parameter = key.rpartition(".")
        if site in names:
            rows = value.T if type(base.module(site)).__name__ == "Conv1D" and parameter == "weight" else value
            rows = from_base_rows(layout, names[site], rows.float(), base)
            writer.add_tensor(f"{names[site]}.{parameter}", rows.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(model: Any, lora: Any = None) -> torch.Tensor:
    context = llama_cpp.llama_init_from_model(model, llama_cpp.llama_context_default_params())
    if lora is not None:
        adapters, scales = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora), (ctypes.c_float * 1)(1.0)
        assert llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales) == 0
    batch = llama_cpp.llama_batch_init(TOKENS, 0, 1)
    batch.n_tokens = TOKENS
    for k, token in enumerate(IDS[0]):
        batch.token[k], batch.pos[k], batch.n_seq_id[k], batch.logits[k] = token, k, 1, 1
        batch.seq_id[k][0] = 0
    assert llama_cpp.llama_decode(context, batch) == 0
    rows = [np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, k), shape=(96,)) for k in range(TOKENS)]
    found = torch.from_numpy(np.stack([row.copy() for row in rows]))[None]
    llama_cpp.llama_free(context)
    return found


if __name__ == "__main__":
    main()
